"""Two runs with one seed, and one that is interrupted: ``pytest tests/e2e/test_reproducibility.py
-m slow``. How far their weights agree is printed (``-s``), and stands in docs/evidence.md.

With ``rollout.full_determinism`` each call has a seed of its own. On a CPU that is all: what else a
server computes in the same moment decides how a sum is rounded, so a token may still differ.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.e2e.runs import BASE, Run, logged, train, write_questions
from tests.e2e.scripted import all_but_the_planner, modules
from tests.evaluation.fakes import endpoint
from tests.flow.fakes import CALL

pytestmark = pytest.mark.slow

SEEDED = (
    "data.seed=3",
    "actor_rollout_ref.rollout.seed=3",
    "actor_rollout_ref.rollout.full_determinism=true",
    "actor_rollout_ref.actor.shuffle=true",
    "trainer.save_freq=1",
    "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
)


def run_of(tmp_path: Path, name: str, steps: int, url: str) -> Run:
    """A run of two steps by its configuration, ended after ``steps``."""
    run = train(
        BASE,
        tmp_path / "data",
        tmp_path / name,
        f"trainer.total_training_steps={steps}",
        "actor_rollout_ref.actor.optim.lr_scheduler_type=constant",
        *SEEDED,
        *all_but_the_planner(url),
        timeout=1800,
    )
    assert run.code == 0, run.output[-4000:]
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    folder = run.folder / "global_step_2" / "actor" / "huggingface"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def said(run: Run) -> dict[tuple[int, str, int], list[tuple[int, ...]]]:
    """The token ids that the planner wrote, by step, question and trajectory."""
    return {
        (scored.step, scored.trajectory.query, scored.session): [
            turn.tokens.response_ids for turn in scored.trajectory.turns
        ]
        for scored in logged(run)
    }


def difference(a: Run, b: Run) -> float:
    """The largest of any weight."""
    ours, theirs = weights(a), weights(b)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_two_starts_and_a_resumed_run_ask_sample_and_learn_the_same(tmp_path: Path) -> None:
    write_questions(tmp_path / "data")
    with endpoint(modules(CALL)) as model:
        first = run_of(tmp_path, "first", 2, model.url)
        second = run_of(tmp_path, "second", 2, model.url)
        run_of(tmp_path, "resumed", 1, model.url)
        resumed = run_of(tmp_path, "resumed", 2, model.url)
    moved = difference_to_base(first)
    for name, other in (("two starts", second), ("a resumed run", resumed)):
        ours, theirs = said(first), said(other)
        assert set(ours) == set(theirs)
        same = sum(ours[place] == theirs[place] for place in ours)
        # All of them where it was measured; what else a server computes may flip one elsewhere.
        assert same > len(ours) / 2
        print(
            f"{name}: {same} of {len(ours)} trajectories are the same to the token; the largest"
            f" difference of a weight is {difference(first, other):.1e}, training moved one by"
            f" {moved:.1e}"
        )


def difference_to_base(run: Run) -> float:
    before, after = AutoModelForCausalLM.from_pretrained(BASE).state_dict(), weights(run)
    return max(float((before[name].float() - after[name]).abs().max()) for name in after)
