"""What the manager hands to its workers inside the configuration: validated settings, and where
servers answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from agentflow_verl.config import schema

KEY = "agentflow_runtime"  # a node of the run's own, beside ``agentflow``


@dataclass(frozen=True)
class Runtime:
    """Read by every worker. Strings only, so that it travels in a DictConfig."""

    agentflow: schema.AgentflowConfig
    tool_urls: dict[str, tuple[str, ...]]
    base_servers: tuple[str, ...]

    @classmethod
    def of(cls, config: DictConfig) -> Runtime:
        """The runtime that ``store`` put into ``config``."""
        node = plain(config[KEY])
        urls = {name: tuple(urls) for name, urls in node["tool_urls"].items()}
        return cls(schema.load(plain(config.agentflow)), urls, tuple(node["base_servers"]))

    def store(self, config: DictConfig) -> None:
        with open_dict(config):
            config[KEY] = {
                "tool_urls": {name: list(urls) for name, urls in self.tool_urls.items()},
                "base_servers": list(self.base_servers),
            }


def plain(node: DictConfig) -> dict[str, Any]:
    """A node as plain, resolved Python."""
    return OmegaConf.to_container(node, resolve=True)
