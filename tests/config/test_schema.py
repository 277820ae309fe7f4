"""The ``agentflow:`` node: a mistake is one line that says where, and what was probably meant."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentflow_verl.config import schema
from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.limits import Limits
from agentflow_verl.config.schema import AgentflowConfig, load
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.config.trained_modules import module_weights
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow_grpo import FlowGRPO

GOOD: dict[str, Any] = {
    "engines": {"verifier": "judge"},
    "endpoints": {"judge": {"base_url": "http://localhost:8000/v1", "model": "m"}},
    "tools": {"python_coder": {}, "wiki": {"urls": ["http://localhost:9000/mcp"]}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    node = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = node
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return node


def complaint(node: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(node)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_a_good_node_loads_and_builds_what_the_rest_uses():
    config = load(GOOD)
    assert config.engines.planner == "policy" and config.engines.verifier == "judge"
    assert config.limits == Limits()
    assert config.flow_grpo == FlowGRPO()
    assert config.endpoints["judge"] == EndpointConfig(
        base_url="http://localhost:8000/v1", model="m"
    )
    assert config.tools["wiki"] == ToolConfig(name="wiki", urls=("http://localhost:9000/mcp",))
    assert config.needs_base


def test_the_base_is_needed_only_where_a_module_asks_for_it():
    assert not load(
        changed("engines", dict.fromkeys(schema.EnginesConfig.model_fields, "policy"))
    ).needs_base


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("max_turn", "max_turns"),
        ("endpoint", "endpoints"),
        ("engines.planer", "planner"),
        ("base.replica", "replicas"),
        ("flow_grpo.min_groups", "min_group"),
        ("endpoints.judge.base_uri", "base_url"),
        ("tools.wiki.url", "urls"),
        ("tools.python_coder.timeout", "timeout_s"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_at_every_level(path, nearest):
    assert (
        complaint(changed(path, 1)) == f"agentflow.{path}: unknown key; did you mean {nearest!r}?"
    )


def test_an_unknown_key_that_is_like_none_gets_the_list():
    assert (
        complaint(changed("base.zzz", 1))
        == "agentflow.base.zzz: unknown key; the names are replicas, temperature, max_tokens,"
        " structured"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("max_turns", 0),
        ("max_turns", 2.5),
        ("max_turns", "many"),
        ("max_turns", None),
        ("time_budget_s", 0),
        ("time_budget_s", float("nan")),
        ("memory_tokens", 63),
        ("base.replicas", 0),
        ("base.temperature", -0.1),
        ("base.max_tokens", 0),
        ("endpoints.judge.base_url", "localhost:8000"),
        ("endpoints.judge.model", None),
        ("endpoints.judge.concurrency", 0),
        ("endpoints.judge.timeout_s", 0),
        ("endpoints.judge.retries", -1),
        ("tools.wiki.timeout_s", 0),
        ("tools.wiki.concurrency", 0),
        ("tools.wiki.max_result_chars", 99),
        ("tools.wiki.urls", "http://localhost:9000/mcp"),
        ("tools.wiki", None),
        ("flow_grpo.statistic", "rows"),
        ("flow_grpo.min_group", 1),
        ("flow_grpo.eps", 0),
        ("flow_grpo.std", "maybe"),
        ("engines", None),
        ("trajectory_dir", 3),
    ],
)
def test_a_bad_value_is_named_with_its_place(path, value):
    text = complaint(changed(path, value))
    assert text.startswith(f"agentflow.{path}: ")
    assert repr(value) in text


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("tools.wiki.urls", ["localhost:9000"], "wiki.*urls"),
        ("tools.wiki.urls", ["http://a/mcp", "http://a/mcp"], "listed twice"),
        ("tools.wiki.command", ["python"], "drop command"),
        ("tools.python_coder.command", [], "command"),
        ("tools.python_coder.env", ["KEY=secret"], "names of environment variables"),
        ("tools", {"my tool": {}}, "my tool"),
    ],
)
def test_what_a_tool_server_cannot_be_is_known_before_anything_starts(path, value, named):
    with pytest.raises(ConfigError, match=named):
        load(changed(path, value))


def test_an_engine_must_exist():
    assert (
        complaint(changed("engines.executor", "juge"))
        == "agentflow.engines.executor: no engine is called 'juge'; did you mean 'judge'?"
    )
    assert "the names are policy, base, judge" in complaint(changed("engines.analyst", "gpt"))


@pytest.mark.parametrize("module", schema.EnginesConfig.model_fields)
@pytest.mark.parametrize("engine", ["policy", "base", "judge"])
def test_every_slot_takes_every_engine(module, engine):
    assert getattr(load(changed(f"engines.{module}", engine)).engines, module) == engine


@pytest.mark.parametrize("name", ["policy", "base"])
def test_an_endpoint_cannot_take_a_built_in_name(name):
    node = changed(f"endpoints.{name}", {"base_url": "http://x/v1", "model": "m"})
    assert complaint(node).startswith(f"agentflow.endpoints.{name}: the name is taken")


def test_a_missing_required_key_is_named():
    assert complaint(changed("endpoints.other", {"model": "m"})).startswith(
        "agentflow.endpoints.other.base_url: "
    )


@pytest.mark.parametrize("tools", [{}, None])
def test_there_must_be_a_tool(tools):
    assert complaint(changed("tools", tools)).startswith("agentflow.tools")


def test_a_loaded_config_cannot_be_changed():
    config = load(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.max_turns = 5


def test_a_validation_has_the_limits_of_training_but_for_those_of_its_own():
    config = load({**GOOD, "max_turns": 3, "time_budget_s": 60, "val": {"max_turns": 10}})
    assert config.val_limits == Limits(max_turns=10, time_budget_s=60)
    assert config.limits == Limits(max_turns=3, time_budget_s=60)
    assert load(GOOD).val_limits == load(GOOD).limits


def test_the_limits_of_a_trajectory_stand_at_the_top_level():
    assert load({**GOOD, "max_turns": 7}).limits == Limits(max_turns=7)


def test_the_judge_is_an_endpoint_of_the_list_or_nobody():
    assert load(GOOD).judge_endpoint is None
    config = load(changed("judge", {"mode": "alone", "endpoint": "judge"}))
    assert config.judge_endpoint == EndpointConfig(base_url="http://localhost:8000/v1", model="m")
    assert "agentflow.judge.endpoint" in complaint(changed("judge", {"mode": "fallback"}))
    assert "did you mean 'judge'" in complaint(
        changed("judge", {"mode": "fallback", "endpoint": "jugde"})
    )
    assert "agentflow.judge.mode" in complaint(changed("judge", {"mode": "always"}))


def test_trained_modules_weigh_the_same_unless_told_otherwise():
    assert load(GOOD).train == ("planner",)
    assert weights_of(load(GOOD)) == {"planner": 1.0}
    both = {**GOOD, "train": ["planner", "executor"]}
    assert weights_of(load(both)) == {"planner": 0.5, "executor": 0.5}
    assert weights_of(load({**both, "train_weights": {"planner": 3.0}}))["planner"] == 0.75


def weights_of(config: AgentflowConfig) -> dict[str, float]:
    return module_weights(config.train, config.train_weights.model_dump())


@pytest.mark.parametrize(
    "node, said",
    [
        ({"train": []}, "name each module that is trained once"),
        ({"train": ["planner", "planner"]}, "name each module that is trained once"),
        ({"train": ["critic"]}, "agentflow.train.0"),
        ({"train": "planner"}, "agentflow.train: Input should be a list"),
        ({"train_weights": {"executor": 2.0}}, "executor is not in agentflow.train"),
        ({"train_weights": {"planner": 0.0}}, "agentflow.train_weights.planner"),
        ({"train_weights": {"planner": float("inf")}}, "agentflow.train_weights.planner"),
        ({"train_weights": {"planner": 1e308}}, "agentflow.train_weights.planner"),
    ],
)
def test_trained_modules_that_make_no_sense_are_refused(node, said):
    assert said in complaint({**GOOD, **node})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "path",
    [
        "time_budget_s",
        "max_fault_rate",
        "base.temperature",
        "flow_grpo.eps",
        "train_weights.planner",
        "tools.python_coder.calls_per_s",
    ],
)
def test_a_number_is_finite(path, value):
    node = {**GOOD, "tools": {"python_coder": {}}}
    place = node
    *parents, last = path.split(".")
    for name in parents:
        place[name] = {**place.get(name, {})}
        place = place[name]
    place[last] = value
    assert f"agentflow.{path}: Input should be a finite number" in complaint(node)
