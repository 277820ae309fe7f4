"""A run whose tool servers or endpoints elsewhere do not answer says so before it starts."""

from __future__ import annotations

import pytest

from agentflow_verl.config import schema
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.reachable import check_reach
from tests.evaluation.fakes import endpoint

NOBODY = "http://127.0.0.1:9"
EMBEDDED = {"mine": {"command": ["false"]}}


def settings(**more: object) -> schema.AgentflowConfig:
    return schema.load({"tools": EMBEDDED, **more})


def test_a_tool_server_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=f"tool server far cannot be reached: .*{NOBODY}/mcp"):
        check_reach(settings(tools={**EMBEDDED, "far": {"urls": [f"{NOBODY}/mcp"]}}))


def test_an_endpoint_is_asked_where_a_module_or_the_judge_uses_it():
    near, far = {"model": "m"}, {"model": "m", "base_url": f"{NOBODY}/v1", "retries": 0}
    with endpoint(lambda request: "OK") as model:
        near["base_url"] = model.url
        check_reach(settings(endpoints={"near": near, "far": far}, engines={"verifier": "near"}))
        with pytest.raises(ConfigError, match="agentflow.endpoints.far does not answer"):
            check_reach(
                settings(
                    endpoints={"near": near, "far": far},
                    engines={"verifier": "near"},
                    judge={"mode": "alone", "endpoint": "far"},
                )
            )


def test_what_the_run_starts_itself_is_not_asked():
    check_reach(settings())
