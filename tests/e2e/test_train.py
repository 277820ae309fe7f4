"""The real trainer, the real engines and the real tool server, two steps on the base model of the
quickstart.
"""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome
from tests.e2e.runs import (
    BASE,
    TEMPERATURE,
    Run,
    assert_frozen_replies_are_the_checkpoints,
    assert_nothing_is_left,
    logged,
    train,
)

STEPS = 2


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    run = train(
        BASE,
        data,
        folder,
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=2",
        f"trainer.rollout_data_dir={folder}/rows",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
    )
    assert run.code == 0, run.output[-4000:]
    return run


def exported(run: Run) -> Path:
    return run.folder / f"global_step_{STEPS}" / "actor" / "huggingface"


def test_every_step_is_logged(run: Run) -> None:
    assert sorted(run.metrics) == [1, 2]
    assert all(
        metrics["agentflow/objective_mass"] == pytest.approx(1.0)
        for metrics in run.metrics.values()
    )
    assert all(metrics["agentflow/optimizer_steps"] == 1 for metrics in run.metrics.values())


def test_the_terminal_shows_the_steps_and_what_to_do_next(run: Run) -> None:
    lines = run.shown.splitlines()
    assert f"agentflow: starting; verl, vLLM and Ray write to {run.folder}/run.log" in lines
    steps = [line for line in lines if line.startswith("agentflow: step ")]
    assert [step.split()[2] for step in steps] == ["1/2", "2/2"]
    assert lines[-1] == f"agentflow: done; look at what it did: agentflow view {run.folder}"
    assert len(lines) <= 10, run.shown
    assert "vllm" in run.output


def test_the_whole_loop_ran_with_the_real_tool(run: Run) -> None:
    turns = [
        turn
        for scored in logged(run)
        for turn in scored.trajectory.turns
        if turn.result is not None
    ]
    computed = {
        turn.call.arguments["code"]: turn.result.text.strip()
        for turn in turns
        if turn.call.tool == "python_coder"
    }
    divisors = [
        (re.fullmatch(r"import math; print\(math\.gcd\((\d+), (\d+)\)\)", code), text)
        for code, text in computed.items()
    ]
    assert [match for match, _ in divisors if match]
    assert all(
        text == str(math.gcd(int(match[1]), int(match[2]))) for match, text in divisors if match
    )
    answered_by = {
        reply.module: reply.engine
        for scored in logged(run)
        for reply in scored.trajectory.all_replies()
    }
    assert answered_by == {
        "analyst": "base",
        "planner": "policy",
        "executor": "base",
        "verifier": "base",
        "generator": "base",
    }


def test_the_actor_moved(run: Run) -> None:
    before = AutoModelForCausalLM.from_pretrained(BASE).state_dict()
    after = AutoModelForCausalLM.from_pretrained(exported(run)).state_dict()
    assert (
        max((before[name].float() - after[name].float()).abs().max().item() for name in before)
        > 1e-4
    )


def test_the_frozen_base_did_not_move(run: Run) -> None:
    """What the frozen analyst said in the last step is what the checkpoint says, to the token."""
    assert_frozen_replies_are_the_checkpoints(run, STEPS)


def test_rollout_and_actor_agree_on_log_probabilities(run: Run) -> None:
    worst = max(metrics["training/rollout_probs_diff_max"] for metrics in run.metrics.values())
    print(f"largest difference of rollout and actor probabilities: {worst:.2e}")
    assert worst < 1e-5


def test_a_row_is_a_planner_turn(run: Run) -> None:
    for step, metrics in run.metrics.items():
        turns = sum(len(scored.trajectory.turns) for scored in logged(run) if scored.step == step)
        assert metrics["agentflow/rows"] == turns


def test_every_trained_token_was_sampled_by_the_rollout_engine(run: Run) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    for step in run.metrics:
        rows = [
            json.loads(line)
            for line in (run.folder / "rows" / f"{step}.jsonl").read_text().splitlines()
        ]
        trained = sorted(row["output"] for row in rows if not row["uid"].startswith("pad"))
        tokens = [
            turn.tokens
            for scored in logged(run)
            if scored.step == step
            for turn in scored.trajectory.turns
        ]
        assert trained == sorted(
            tokenizer.decode(t.response_ids, skip_special_tokens=True) for t in tokens
        )
        assert all(len(t.logprobs) == len(t.response_ids) > 0 for t in tokens)


def test_recorded_log_probabilities_are_the_models_own(run: Run) -> None:
    """Step 1 is sampled from the base checkpoint: recomputing with transformers gives the same
    numbers.
    """
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    tokens = next(
        turn.tokens
        for scored in logged(run)
        if scored.step == 1
        for turn in scored.trajectory.turns
    )
    ids = torch.tensor([[*tokens.prompt_ids, *tokens.response_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(tokens.prompt_ids) - 1 : -1] / TEMPERATURE
        logprobs = logits.log_softmax(-1)
    own = logprobs.gather(1, torch.tensor(tokens.response_ids).unsqueeze(1)).squeeze(1)
    assert torch.allclose(own, torch.tensor(tokens.logprobs), atol=1e-4)


def test_trajectories_read_back_equal(run: Run) -> None:
    for scored in logged(run):
        assert ScoredTrajectory.model_validate_json(scored.model_dump_json()) == scored


def test_nothing_of_the_run_is_left(run: Run) -> None:
    assert run.shared_memory
    assert_nothing_is_left(run)


@pytest.mark.slow
def test_a_run_resumes_with_its_export_as_base_and_survives_the_death_of_a_tool_server(
    run: Run, data: Path
) -> None:
    """The exported folder is a checkpoint like any other: transformers loads it as the reference,
    vLLM serves it.

    With group filtering, a KL penalty in the reward and dual clip.
    """
    killed: list[int] = []

    def kill_once(pid: int) -> None:
        children = (
            {
                child: " ".join(child.cmdline())
                for child in psutil.Process(pid).children(recursive=True)
            }
            if not killed
            else {}
        )
        if any(
            "generate_sequences" in line for line in children.values()
        ):  # trajectories are under way
            server = next(
                child for child, line in children.items() if "tool_servers.python_coder" in line
            )
            server.send_signal(signal.SIGKILL)
            killed.append(server.pid)

    overrides = (
        f"trainer.total_training_steps={STEPS + 1}",
        f"reward.custom_reward_function.path={data}/flat_reward.py",
        *(
            "algorithm.filter_groups.enable=true",
            "algorithm.use_kl_in_reward=true",
            "actor_rollout_ref.actor.clip_ratio_c=3.0",
        ),
    )
    more = train(exported(run), data, run.folder, *overrides, during=kill_once)
    assert more.code == 0, more.output[-4000:]
    assert sorted(more.metrics) == [STEPS + 1]
    assert killed
    metrics = more.metrics[STEPS + 1]
    assert metrics["training/rollout_probs_diff_max"] < 1e-5
    assert sum(
        metrics[f"agentflow/outcome/{outcome.value}"] for outcome in Outcome
    ) == pytest.approx(1.0)
    assert metrics["training/filter_groups/evicted_samples"] > 0
    assert metrics["agentflow/zero_variance_groups"] == 0 and metrics["agentflow/groups"] == 2
    assert "actor/reward_kl_penalty" in metrics
    assert_nothing_is_left(more)


def test_a_wrong_key_is_one_line_before_anything_starts(data: Path, tmp_path: Path) -> None:
    run = train(BASE, data, tmp_path, "+agentflow.max_turn=3", timeout=120)
    assert run.code == 2
    assert "agentflow: agentflow.max_turn: unknown key; did you mean 'max_turns'?" in run.output
    assert "Traceback" not in run.output
    assert "ray init" not in run.output
    assert_nothing_is_left(run)


@pytest.mark.slow
def test_two_trained_modules_share_the_loss(data: Path, tmp_path: Path) -> None:
    """Planner and executor on the policy: each call is a row, and each module half of the loss."""
    run = train(
        BASE,
        data,
        tmp_path,
        f"trainer.total_training_steps={STEPS}",
        "agentflow.train=[planner,executor]",
        "agentflow.engines.executor=policy",
    )
    assert run.code == 0, run.output[-4000:]
    for metrics in run.metrics.values():
        shares = [
            metrics[f"agentflow/trained/{module}/loss_share"] for module in ("planner", "executor")
        ]
        # What a trajectory without a readable plan leaves of the executor's half goes to nobody.
        assert shares[0] == pytest.approx(0.5) and 0 < shares[1] <= 0.5 + 1e-6
        assert metrics["training/rollout_probs_diff_max"] < 1e-5
        rows = [metrics[f"agentflow/trained/{module}/rows"] for module in ("planner", "executor")]
        assert sum(rows) <= metrics["agentflow/rows"] and all(rows)
    for scored in logged(run):
        for turn in scored.trajectory.turns:
            for reply in turn.replies:
                assert (reply.tokens is not None) == (reply.module == "executor")


@pytest.mark.slow
def test_all_five_modules_share_the_loss_and_no_frozen_server_starts(
    data: Path, tmp_path: Path
) -> None:
    run = train(
        BASE,
        data,
        tmp_path,
        "trainer.total_training_steps=1",
        f"agentflow.train=[{','.join(MODULES)}]",
        *(f"agentflow.engines.{module}=policy" for module in MODULES),
    )
    assert run.code == 0, run.output[-4000:]
    [metrics] = run.metrics.values()
    for module in MODULES:
        # What a trajectory lacks of a module's calls leaves that module's fifth to nobody.
        assert 0 < metrics[f"agentflow/trained/{module}/loss_share"] <= 0.2 + 1e-6
        assert metrics[f"agentflow/trained/{module}/rows"] > 0
    assert metrics["agentflow/trained/analyst/loss_share"] == pytest.approx(0.2)
    assert metrics["actor/grad_norm"] > 0
    assert metrics["training/rollout_probs_diff_max"] < 1e-5
    for scored in logged(run):
        for reply, tokens in scored.trajectory.replies_in_order():
            assert reply.engine == "policy"
            assert tokens is not None and tokens.response_ids
    assert_nothing_is_left(run)
