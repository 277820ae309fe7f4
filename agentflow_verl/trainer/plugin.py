"""Entry point of the group ``verl.plugins``: loaded by ``import verl`` in the driver and in every
Ray process.

verl swallows an import error of this module at DEBUG level (verl/__init__.py, "Failed to load
plugin"), so it stays small, and ``agentflow doctor`` asks ``LOADED`` whether it got to its end. A
run that does not use the agentflow config is not changed: what happens here only adds names.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import wrapt
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from agentflow_verl.config.overrides import check_override_keys
from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.cpu import platform
from agentflow_verl.trainer.installed import has_flash_attn

CONFIG_PATH = "pkg://agentflow_verl.config"


class AgentflowSearchPath(SearchPathPlugin):
    """Makes ``--config-name agentflow`` known to any Hydra program that imports verl."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        # The one moment of ours between the command line and Hydra's reading of it.
        try:
            check_override_keys(sys.argv[1:])
        except ConfigError as wrong:
            sys.stderr.write(f"agentflow: {wrong}\n")
            raise SystemExit(2) from None
        search_path.append(provider="agentflow_verl", path=CONFIG_PATH)


Plugins.instance().register(AgentflowSearchPath)
# Hydra refuses an override of a key that no config file lists; so every option is listed, with its
# one default.
ConfigStore.instance().store("agentflow_schema", {"agentflow": AgentflowConfig().model_dump()})


def if_flash_attn(device: str, there: Any, absent: Any) -> Any:
    """``${agentflow.if_flash_attn:DEVICE,there,absent}`` in a configuration. Other devices than
    CUDA's have an attention of their own under flash-attn's name.
    """
    return there if device != "cuda" or has_flash_attn() else absent


OmegaConf.register_new_resolver("agentflow.if_flash_attn", if_flash_attn, replace=True)
platform.register()
# The trainer's modules are heavy: ours, which register themselves, are imported where the trainer
# itself is. Not sooner, since they subclass verl's; not later, since main_ppo looks the mode up in
# the registry.
wrapt.register_post_import_hook(
    lambda _: importlib.import_module("agentflow_verl.trainer.trainers"), "verl.trainer.ppo.v1"
)

LOADED = True
