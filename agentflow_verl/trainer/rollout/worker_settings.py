"""What the manager hands to its workers inside the configuration: validated settings, and where
servers answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from agentflow_verl.config import schema

KEY = "agentflow_runtime"  # a node of the run's own, beside ``agentflow``


@dataclass(frozen=True)
class WorkerSettings:
    """Read by every worker. Strings only, so that it travels in a DictConfig."""

    agentflow: schema.AgentflowConfig
    tool_urls: dict[str, tuple[str, ...]]
    base_servers: tuple[str, ...]

    @classmethod
    def from_config(cls, config: DictConfig) -> WorkerSettings:
        """The settings that ``store`` put into ``config``."""
        node = resolve_node(config[KEY])
        urls = {name: tuple(urls) for name, urls in node["tool_urls"].items()}
        return cls(schema.load(resolve_node(config.agentflow)), urls, tuple(node["base_servers"]))

    def store(self, config: DictConfig) -> None:
        with open_dict(config):
            config[KEY] = {
                "tool_urls": {name: list(urls) for name, urls in self.tool_urls.items()},
                "base_servers": list(self.base_servers),
            }


def resolve_node(node: DictConfig) -> dict[str, Any]:
    """A node of the configuration as a dict, its interpolations resolved."""
    return cast("dict[str, Any]", OmegaConf.to_container(node, resolve=True))
