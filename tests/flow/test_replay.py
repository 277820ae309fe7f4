"""A record runs again to the same record, whatever happened in it; what is changed since is found
and shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from agentflow_verl.cli import main as cli
from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import InfraError, MalformedOutput
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow import loop, prompts
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow.parse import parse_verdict
from agentflow_verl.flow.replay import (
    first_difference,
    rebuild_prompts,
    replay,
    timeless,
)
from agentflow_verl.tools.schema import ArgumentCheck
from agentflow_verl.tools.types import ToolResult
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog
from agentflow_verl.trajectories.manifest import Setup
from agentflow_verl.trajectories.records import Call, Outcome, Tokens, Trajectory
from tests.flow.fakes import (
    ANSWER,
    CALL,
    CONTINUE,
    PLAN,
    PYTHON,
    SEARCH,
    STOP,
    Hang,
    ScriptedEngine,
    ScriptedTools,
    engines,
    flow,
)

BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
LIMITS = Limits(max_turns=2)
SOON = Limits(max_turns=2, time_budget_s=0.15)
BROKEN = InfraError("the server is gone")


def refused() -> MalformedOutput:
    with pytest.raises(MalformedOutput) as caught:
        ArgumentCheck(PYTHON.name, PYTHON.parameters)({"cod": 1})
    return caught.value


FAILED = ToolResult(
    "python_coder", "ZeroDivisionError", is_error=True, truncated=True, seconds=0.4, attempts=2
)
SCENARIOS: dict[str, Callable[[], Flow]] = {
    "answered": lambda: flow(verifier=[CONTINUE, STOP], limits=LIMITS),
    "out of turns": lambda: flow(verifier=CONTINUE, limits=LIMITS),
    "a tool's error": lambda: flow(ScriptedTools(FAILED, "4"), LIMITS, verifier=[CONTINUE, STOP]),
    "no plan, then one": lambda: flow(planner=["hm", PLAN], limits=LIMITS),
    "all modules trained": lambda: Flow(
        engines(verifier=[CONTINUE, STOP]), ScriptedTools(), LIMITS, None, MODULES
    ),
    "never a plan": lambda: flow(planner="hm", limits=LIMITS),
    "no answer": lambda: flow(generator="", limits=LIMITS),
    "an unknown tool": lambda: flow(
        planner=[PLAN.replace("python_coder", "abacus"), PLAN],
        verifier=[CONTINUE, STOP],
        limits=LIMITS,
    ),
    "a call without JSON": lambda: flow(
        executor=["2*2", CALL], verifier=[CONTINUE, STOP], limits=LIMITS
    ),
    "a call as a block": lambda: flow(executor="```python\nprint(4)\n```", limits=LIMITS),
    "arguments refused": lambda: flow(
        ScriptedTools(refused(), "4"),
        LIMITS,
        executor=['{"cod": 1}', CALL],
        verifier=[CONTINUE, STOP],
    ),
    "an unreadable verdict": lambda: flow(verifier="well", limits=LIMITS),
    "a long result": lambda: flow(ScriptedTools("word " * 3000), LIMITS, verifier=CONTINUE),
    "a tool out of time": lambda: flow(ScriptedTools("4", Hang), SOON, verifier=CONTINUE),
    "a tool gone": lambda: flow(ScriptedTools("4", BROKEN), LIMITS, verifier=CONTINUE),
    "a bug of ours": lambda: flow(verifier=KeyError("x"), limits=LIMITS),
    **{
        f"{module} out of time": lambda module=module: flow(
            limits=SOON, **{"verifier": CONTINUE, module: Hang}
        )
        for module in MODULES
    },
    **{
        f"{module} gone": lambda module=module: flow(
            limits=LIMITS, **{"verifier": CONTINUE, module: BROKEN}
        )
        for module in MODULES
    },
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_record_runs_again_to_itself(name):
    agent = SCENARIOS[name]()
    recorded = await agent.run("What is 2 * 2?", "t0")
    for setup in (Setup(limits=agent.limits, tools=(PYTHON, SEARCH)), Setup.guessed(recorded)):
        now = await replay(recorded, setup)
        assert first_difference(recorded, now) is None
        assert timeless(recorded) == timeless(now)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_prompt_is_rebuilt_as_it_was_sent(name):
    agent = SCENARIOS[name]()
    recorded = await agent.run("What is 2 * 2?", "t0")
    sent = {module: list(engine.seen) for module, engine in agent.engines.items()}
    setup = Setup(limits=agent.limits, tools=(PYTHON, SEARCH))
    rebuilt = await rebuild_prompts(recorded, setup, count=agent.engines["planner"].count)
    assert len(rebuilt) == len(recorded.all_replies()) and all(one.exact for one in rebuilt)
    for one in rebuilt:
        assert any(list(one.messages) in asked for asked in sent.values())


async def test_a_prompt_that_was_shortened_is_rebuilt_as_it_was_sent():
    whole = flow(ScriptedTools("word " * 3000), LIMITS, verifier=CONTINUE)
    await whole.run("What is 2 * 2?", "t0")
    engine = whole.engines["generator"]
    engine.prompt_limit = engine.count(engine.seen[-1][1]["content"])
    recorded = await whole.run("What is 2 * 2?", "t0")
    assert len(engine.seen) > 2  # the first was too long
    setup = Setup(limits=LIMITS, tools=(PYTHON, SEARCH))
    *_, last = await rebuild_prompts(recorded, setup, count=engine.count)
    assert last.exact and list(last.messages) == engine.seen[-1]


async def test_prompts_of_other_templates_are_rebuilt_but_not_said_to_be_exact():
    recorded = await flow(limits=LIMITS).run("What is 2 * 2?", "t0")
    other = Setup(limits=LIMITS, tools=(PYTHON,))
    rebuilt = await rebuild_prompts(recorded, other)
    assert len(rebuilt) == len(recorded.all_replies())
    assert not rebuilt[0].exact


async def test_every_outcome_is_among_them():
    assert {(await make().run("?", "t0")).outcome for make in SCENARIOS.values()} == set(Outcome)


async def test_a_trajectory_that_could_not_be_scored_runs_again_to_its_end():
    recorded = await flow(limits=LIMITS).run("What is 2 * 2?", "t0")
    unscored = recorded.unscored("no judge")
    assert first_difference(unscored, await replay(unscored, SETUP)) is None


# ---- what is different is found ----


async def recorded_and_now(setup: Setup, **scripts: object) -> tuple[Trajectory, Trajectory]:
    recorded = await flow(limits=LIMITS, **scripts).run("What is 2 * 2?", "t0")
    return recorded, await replay(recorded, setup)


SETUP = Setup(limits=LIMITS, tools=(PYTHON, SEARCH))


async def test_a_parser_that_reads_otherwise_is_the_first_difference(monkeypatch):
    monkeypatch.setattr(
        loop, "parse_verdict", lambda text: parse_verdict(text.replace("STOP", "CONTINUE"))
    )
    recorded, same = await recorded_and_now(SETUP)
    assert first_difference(recorded, same) is None
    monkeypatch.undo()
    found = first_difference(recorded, await replay(recorded, SETUP))
    assert (found.where, found.recorded, found.now) == ("turns[0].verdict.stop", "False", "True")


async def test_another_limit_is_a_difference_with_the_reason():
    recorded, now = await recorded_and_now(
        SETUP.model_copy(update={"limits": Limits(max_turns=3)}), verifier=CONTINUE
    )
    assert first_difference(recorded, now).where == "error"
    assert (now.outcome, now.error) == (
        Outcome.INFRA_ERROR,
        "the flow now asks the planner, where it asked the generator",
    )


async def test_a_tool_that_is_gone_is_a_difference():
    recorded, now = await recorded_and_now(SETUP.model_copy(update={"tools": (SEARCH,)}))
    assert first_difference(recorded, now).where == "turns[0].call"
    assert "where it asked the executor" in now.error


async def test_a_record_that_was_tampered_with_is_found():
    recorded = await flow(limits=LIMITS).run("What is 2 * 2?", "t0")
    (turn,) = recorded.turns
    other = turn.model_copy(
        update={"call": Call(tool="python_coder", arguments={"code": "print(5)"})}
    )
    changed = recorded.model_copy(update={"turns": (other,)})
    found = first_difference(changed, await replay(changed, SETUP))
    assert (found.where, found.recorded, found.now) == (
        "turns[0].call.arguments.code, character 6",
        "'print(5)'",
        "'print(2 * 2)'",
    )


# ---- prompts, with the run's tokenizer ----


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


class Output:
    """As verl's TokenOutput."""

    def __init__(self, token_ids: list[int]):
        self.token_ids, self.log_probs, self.stop_reason, self.extra_fields = (
            token_ids,
            [-0.1] * len(token_ids),
            "completed",
            {},
        )


def token_engine(tokenizer, name: str, limit: int, *texts: str) -> TokenEngine:
    left = list(texts)

    async def generate(request_id, *, prompt_ids, sampling_params):
        return Output(
            tokenizer.encode(left.pop(0) if len(left) > 1 else left[0], add_special_tokens=False)
        )

    return TokenEngine(name, tokenizer, generate, {}, limit, 500)


async def in_tokens(tokenizer, prompt_limit: int = 10_000) -> Trajectory:
    said = {
        "analyst": ["Double it."],
        "planner": [PLAN],
        "executor": [CALL],
        "verifier": [CONTINUE, STOP],
        "generator": [ANSWER],
    }
    engines = {
        module: token_engine(
            tokenizer, "policy" if module == "planner" else "base", prompt_limit, *texts
        )
        for module, texts in said.items()
    }
    return await Flow(engines, ScriptedTools("word " * 300), LIMITS).run("What is 2 * 2?", "t0")


async def test_prompts_are_made_again_token_for_token(tokenizer):
    recorded = await in_tokens(tokenizer)
    assert recorded.outcome is Outcome.ANSWERED and len(recorded.turns) == 2
    assert first_difference(recorded, await replay(recorded, SETUP, tokenizer), tokenizer) is None


async def test_a_prompt_that_had_to_be_shortened_is_shortened_again(tokenizer):
    recorded = await in_tokens(tokenizer, prompt_limit=1000)
    setup = SETUP.model_copy(update={"prompt_limits": {"policy": 1000, "base": 1000}})
    assert first_difference(recorded, await replay(recorded, setup, tokenizer), tokenizer) is None
    without = await replay(recorded, SETUP, tokenizer)
    assert first_difference(recorded, without, tokenizer) is not None, "the limit mattered"


async def test_a_changed_template_is_shown_where_its_text_changes(tokenizer):
    recorded = await in_tokens(tokenizer)
    planner = prompts.load("planner")
    changed = prompts.Prompt(
        prompts.Template(planner.system.template.replace("Do not repeat", "Never repeat", 1)),
        planner.user,
    )
    used = prompts.Prompts({**prompts.Prompts.shipped().by_module, "planner": changed})
    now = await replay(recorded, SETUP, tokenizer, used)
    found = first_difference(recorded, now, tokenizer)
    assert found.where.startswith("turns[0].tokens.prompt_ids, character")
    assert "Do not repeat" in found.recorded and "Never repeat" in found.now


async def test_a_changed_template_of_a_frozen_module_is_found_by_the_digest(tokenizer):
    recorded = await in_tokens(tokenizer)
    changed = prompts.Prompt(
        prompts.load("verifier").system, prompts.Template("What is $query?\n$memory")
    )
    same_length = prompts.load("generator").user.template.replace("Question:", "QUESTION:", 1)
    for module, where in (("verifier", "turns[0].replies[2]"), ("generator", "replies[1]")):
        system = prompts.load(module).system
        user = changed.user if module == "verifier" else prompts.Template(same_length)
        used = prompts.Prompts(
            {**prompts.Prompts.shipped().by_module, module: prompts.Prompt(system, user)}
        )
        found = first_difference(
            recorded, await replay(recorded, SETUP, tokenizer, used), tokenizer
        )
        assert found.where.startswith(where)
        older = without_digests(recorded)
        found = first_difference(older, await replay(older, SETUP, tokenizer), tokenizer)
        assert found is None, "an older record has none"


async def test_a_prompt_that_an_endpoint_refused_as_too_long_is_no_difference(tokenizer):
    """Only the endpoint knew its limit."""
    modules = {
        "analyst": token_engine(tokenizer, "base", 10_000, "Double it."),
        "planner": token_engine(tokenizer, "policy", 10_000, PLAN),
        "executor": token_engine(tokenizer, "base", 10_000, CALL),
        "verifier": ScriptedEngine("judge", CONTINUE, STOP, prompt_limit=300),
        "generator": token_engine(tokenizer, "base", 10_000, ANSWER),
    }
    recorded = await Flow(modules, ScriptedTools("word " * 300), LIMITS).run("What is 2?", "t0")
    assert len(modules["verifier"].seen) > 2, "the second prompt was shortened"
    assert first_difference(recorded, await replay(recorded, SETUP, tokenizer), tokenizer) is None


def without_digests(trajectory: Trajectory) -> Trajectory:
    text = trajectory.model_dump_json()
    for reply in trajectory.all_replies():
        text = text.replace(reply.prompt_digest, "")
    return Trajectory.model_validate_json(text)


# ---- the command ----


@pytest.fixture
async def log(tmp_path) -> Path:
    """A log with one trajectory of each outcome, by its name."""
    kept = TrajectoryLog(tmp_path / "trajectories")
    for name in ("answered", "out of turns", "never a plan", "a tool out of time", "a tool gone"):
        trajectory = await SCENARIOS[name]().run("What is 2 * 2?", name.replace(" ", "-"))
        kept.write(
            ScoredTrajectory(
                step=1,
                split="train",
                group="g",
                session=0,
                data_source="maths",
                trajectory=trajectory,
            )
        )
    SETUP.save(kept.folder)
    return next(kept.folder.glob("train/*/*.jsonl"))


async def main(arguments: list[str]) -> int:
    """The command has an event loop of its own."""
    return await asyncio.to_thread(cli.main, arguments)


async def test_a_file_that_replays_is_said_to(log, capsys):
    assert await main(["replay", str(log)]) == 0
    assert (
        "5 replayed (1 answered, 1 out_of_turns, 1 malformed, 1 out_of_time, 1 infra_error), 0"
        " different" in capsys.readouterr().out
    )


async def test_one_of_a_file_is_replayed_by_its_name(log, capsys):
    assert await main(["replay", f"{log}:never-a-plan"]) == 0
    assert capsys.readouterr().out.startswith("1 replayed (1 malformed), 0 different")


async def test_a_difference_is_shown_and_the_exit_status_is_1(log, capsys):
    SETUP.model_copy(update={"tools": (SEARCH,)}).save(log.parents[2])
    assert await main(["replay", f"{log}:answered"]) == 1
    shown = capsys.readouterr().out
    assert (
        shown.startswith("answered: turns[0].call\n  recorded  {'tool': 'python_coder'")
        and "1 different" in shown
    )


@pytest.mark.parametrize("source", ["{log}:nobody", "{log}x", "{folder}/flow.json"])
async def test_what_is_not_there_is_a_line_and_status_2(log, capsys, source):
    assert await main(["replay", source.format(log=log, folder=log.parents[2])]) == 2
    assert capsys.readouterr().err.startswith("agentflow replay: ")


async def test_a_name_with_a_colon_and_lines_that_are_broken_are_read_past(log, capsys, caplog):
    odd = log.with_name("host:1.jsonl")
    odd.write_bytes(log.read_bytes() + b"{broken\n" + log.read_bytes()[:99])
    assert await main(["replay", f"{odd}:answered"]) == 0
    assert capsys.readouterr().out.startswith("1 replayed (1 answered), 0 different")
    assert "1 of its lines left out; line 6: Invalid JSON" in caplog.text
    odd.write_bytes(log.read_bytes().splitlines()[0])  # copied by hand, without a line break
    assert await main(["replay", str(odd)]) == 0
    assert capsys.readouterr().out.startswith("1 replayed (1 answered), 0 different")


@pytest.mark.parametrize("text", ['{"limits": {', '{"limits": {}, "tools": [], "new": 1}'])
async def test_a_setup_that_cannot_be_read_is_named(log, capsys, text):
    (log.parents[2] / "flow.json").write_text(text)
    assert await main(["replay", str(log)]) == 2
    message = capsys.readouterr().err
    assert "flow.json is of another version, or damaged (" in message
    assert message.count("\n") == 1


async def test_without_a_setup_a_plan_that_names_no_tool_is_as_unreadable_as_it_was():
    nameless = PLAN.partition("Tool:")[0]
    scripted = flow(limits=LIMITS, planner=[PLAN, nameless], verifier=CONTINUE)
    recorded = await scripted.run("What is 2 * 2?", "t0")
    assert recorded.turns[0].call is not None and recorded.turns[1].plan is None
    assert await replays_without_a_setup(recorded)


NAMELESS = PLAN.partition("Tool:")[0]


@pytest.mark.parametrize(
    "tools, plans",
    [
        ((PYTHON,), [NAMELESS, "hm", PLAN]),
        ((PYTHON,), [NAMELESS + "Tool: abacus", "hm", PLAN]),
        ((PYTHON, SEARCH), [NAMELESS.replace("because", "python_coder can"), NAMELESS, PLAN]),
    ],
    ids=["supplied", "unknown", "supplied among several"],
)
async def test_without_a_setup_plans_are_read_as_they_were(tools, plans):
    limits = Limits(max_turns=3)
    scripted = flow(ScriptedTools(specs=tools), limits, planner=plans, verifier=CONTINUE)
    recorded = await scripted.run("What is 2 * 2?", "t0")
    assert [turn.plan is None for turn in recorded.turns] == [False, True, False]
    assert await replays_without_a_setup(recorded)


async def replays_without_a_setup(recorded: Trajectory) -> bool:
    for setup in Setup.guesses(recorded):
        if first_difference(recorded, await replay(recorded, setup)) is None:
            return True
    return False


@pytest.mark.parametrize("given", ["./none", "/no/such/folder", "~/none", "models/none/here"])
async def test_a_tokenizers_folder_that_is_not_there_is_one_line(log, capsys, given):
    SETUP.model_copy(update={"tokenizer": "a/name"}).save(log.parents[2])
    assert await main(["replay", str(log), "--tokenizer", given]) == 2
    assert f"--tokenizer {given}: there is no such folder" in capsys.readouterr().err


async def test_what_was_sent_in_text_is_not_said_to_be_compared(tmp_path, capsys):
    recorded = await flow(limits=LIMITS).run("What is 2 * 2?", "t0")
    turns = tuple(
        turn.model_copy(update={"tokens": Tokens(prompt_ids=(), response_ids=())})
        for turn in recorded.turns
    )
    path = tmp_path / "one.json"
    path.write_text(recorded.model_copy(update={"turns": turns}).model_dump_json())
    SETUP.save(tmp_path)
    assert await main(["replay", str(path), "--tokenizer", str(BASE)]) == 0
    assert "prompts were not compared: they were sent in text" in capsys.readouterr().out


async def test_the_tokenizer_of_the_run_is_found_and_prompts_are_compared(
    tokenizer, tmp_path, capsys
):
    path = tmp_path / "trajectories" / "one.json"
    SETUP.model_copy(update={"tokenizer": str(BASE)}).save(path.parent)
    recorded = await in_tokens(tokenizer)
    path.write_text(recorded.model_dump_json())
    assert await main(["replay", str(path)]) == 0
    assert "0 different; prompts were compared too" in capsys.readouterr().out
    tokens = recorded.turns[0].tokens
    other = recorded.turns[0].model_copy(
        update={"tokens": tokens.model_copy(update={"prompt_ids": tokens.prompt_ids[:-3]})}
    )
    path.write_text(
        recorded.model_copy(update={"turns": (other, *recorded.turns[1:])}).model_dump_json()
    )
    assert await main(["replay", str(path)]) == 1
    assert "turns[0].tokens.prompt_ids, character" in capsys.readouterr().out


async def test_replay_uses_the_prompts_of_the_run_and_says_where_they_differ(log, tmp_path, capsys):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "verifier.md").write_text("Judge.\n---\n$query $memory")
    digest = prompts.Prompts.from_folder(folder).digest
    setup = SETUP.model_copy(update={"prompts": str(folder), "prompts_digest": digest})
    setup.save(log.parents[2])
    assert await main(["replay", str(log)]) == 0
    assert "differ from those of the run" not in capsys.readouterr().out
    (folder / "verifier.md").write_text("Judge well.\n---\n$query $memory")
    assert await main(["replay", str(log)]) == 0
    shown = capsys.readouterr().out
    assert f"templates differ from those of the run ({folder})" in shown.splitlines()[0]
    (folder / "verifier.md").write_text("Judge.\n---\n$query $memory")
    moved = folder.rename(tmp_path / "moved")
    assert await main(["replay", str(log)]) == 0
    assert "differ from those of the run" in capsys.readouterr().out
    assert await main(["replay", str(log), "--prompts", str(moved)]) == 0
    assert "differ from those of the run" not in capsys.readouterr().out


async def test_what_solve_wrote_is_replayed(tmp_path, capsys):
    path = tmp_path / "answer.json"
    path.write_text((await SCENARIOS["answered"]().run("?", "solve")).model_dump_json(indent=2))
    assert await main(["replay", str(path)]) == 0
    assert "prompts were not compared" in capsys.readouterr().out
