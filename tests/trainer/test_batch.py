"""A batch through verl's real queue: sampled from its replay buffer, padded, dealt to ranks and
steps, weighed.

What comes out is compared with tests/flow_grpo/oracle.py, which has never heard of rows, queues or
padding.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
import transfer_queue as tq
import yaml
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.core_algos import FixedKLController
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer import trainers as modes
from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT
from agentflow_verl.trainer.rollout.reward_manager import FlowRewardManager
from agentflow_verl.trainer.rollout.rows import RECORD, to_rows
from agentflow_verl.trainer.rollout.worker import FlowWorker
from agentflow_verl.trajectories.records import Outcome, Tokens, Trajectory
from tests.config.test_hydra import composed, hydra  # noqa: F401 - a fixture, used by name
from tests.flow.fakes import planned
from tests.flow_grpo import oracle
from tests.trainer.test_trainers import bare

RECIPES = Path(__file__).parents[2] / "recipes"
BETA = 0.1
FAULT, NO_TURN = "fault", "no turn"
MIXED = {  # group: of each trajectory the reward and the tokens of its turns
    "a": [(1.0, (3,)), (0.0, (2, 5, 1)), (1.0, (4, 4))],
    "b": [(1.0, (2,)), (0.0, (6, 1)), (FAULT, (3, 3))],
    "c": [(1.0, (2, 2)), (FAULT, (1,)), (FAULT, (1,))],
    "d": [(0.5, (3,)), (0.5, (2, 2)), (0.5, (1,))],
    "e": [(0.0, NO_TURN), (1.0, (7,)), (0.0, (1, 1, 1))],
}


@pytest.fixture(scope="module", autouse=True)
def queue(hydra: None) -> Iterator[None]:  # noqa: F811
    ray.init(num_cpus=8, include_dashboard=False)
    config = composed(
        "transfer_queue.enable=true",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    )
    tq.init(config.transfer_queue)
    yield
    tq.close()
    ray.shutdown()


def clear() -> None:
    for partition, items in (tq.kv_list() or {}).items():
        if items:
            tq.kv_clear(partition_id=partition, keys=list(items))


@pytest.fixture(autouse=True)
def empty_after(queue: None) -> Iterator[None]:
    yield
    clear()


def put(
    groups: dict[str, list[tuple[Any, Any]]],
    step: int = 1,
    rows_of: Callable[[Any, Any], list[Any]] | None = None,
) -> list[str]:
    """Store groups as the agent-loop worker does. Returns the keys of their rows."""
    keys, fields, tags = [], [], []
    rows_of = rows_of or _rows
    for group, trajectories in groups.items():
        for session, (reward, lengths) in enumerate(trajectories):
            for index, output in enumerate(rows_of(reward, lengths)):
                keys.append(f"{group}_{session}_{index}")
                field = output.as_dict()
                length = len(field["prompts"]) + len(field["responses"])
                ids = torch.cat([field["prompts"], field["responses"]])
                field |= {
                    "uid": group,
                    "session_id": session,
                    "loss_mask": field["response_mask"],
                    "input_ids": ids,
                }
                fields.append(
                    field | {"position_ids": torch.arange(length), "multi_modal_inputs": {}}
                )
                tags.append(
                    {
                        "status": "success",
                        "prompt_len": length - len(field["responses"]),
                        "seq_len": length,
                        "global_steps": step,
                    }
                )
        tq.kv_put(
            key=group,
            partition_id="train",
            tag={"is_prompt": True, "status": "finished", "global_steps": step},
        )
    tq.kv_batch_put(
        keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id="train"
    )
    return keys


def _rows(reward: Any, lengths: Any) -> list[Any]:
    sampled = [] if lengths == NO_TURN else lengths
    turns = tuple(
        planned(
            index,
            Tokens(prompt_ids=(1, 2), response_ids=(5,) * length, logprobs=(-1.0,) * length),
        )
        for index, length in enumerate(sampled)
    )
    outcome = Outcome.INFRA_ERROR if reward == FAULT else Outcome.ANSWERED
    error = "the server is gone" if reward == FAULT else None
    trajectory = Trajectory(
        id="t", query="q", turns=turns, outcome=outcome, error=error, timings={}
    )
    return scored(to_rows(trajectory, placeholder_id=0, policy_version=1), reward)


def scored(rows: list[Any], reward: Any) -> list[Any]:
    """As the reward loop leaves them."""
    for row in rows:
        row.extra_fields.pop(RECORD, None)
        row.extra_fields["reward_extra_info"] = {"half": 0.5}
        row.reward_score = 0.0 if reward == FAULT else reward
    return rows


def put_log_probs(keys: list[str], old: float = -1.0) -> None:
    """What the actor and the reference would have written."""
    data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["response_mask"])
    masks = list(data["response_mask"].unbind())
    columns = {"old_log_probs": old, "ref_log_prob": -1.5}
    nested = {
        name: torch.nested.as_nested_tensor(
            [torch.full(mask.shape, value) for mask in masks], layout=torch.jagged
        )
        for name, value in columns.items()
    }
    tq.kv_batch_put(
        keys=keys, partition_id="train", fields=TensorDict(nested, batch_size=len(keys))
    )


def weigh(
    keys: list[str], *overrides: str, ranks: int = 1, old: float = -1.0, mode: str = "sync"
) -> tuple[dict[str, tuple[float, float]], dict[str, float], modes.FlowTrainer]:
    """Advantage and loss weight of every row, by key."""
    trainer = bare(mode, "actor_rollout_ref.actor.ppo_mini_batch_size=2", *overrides)
    trainer.use_reference_policy = True
    trainer.tokenizer = SimpleNamespace(eos_token_id=0)
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": list(range(ranks))})
    trainer.kl_ctrl_in_reward = FixedKLController(BETA)
    metrics: dict[str, float] = {}
    tags = tq.kv_list()["train"]
    batch = trainer._balance_batch(
        KVBatchMeta(partition_id="train", keys=keys, tags=[tags[key] for key in keys]), metrics
    )
    put_log_probs(batch.keys, old)
    trainer.balanced = batch
    trainer._compute_advantage(batch, metrics)
    written = tq.kv_batch_get(
        keys=batch.keys, partition_id="train", select_fields=["advantages", LOSS_WEIGHT]
    )
    found = {}
    for key, advantage, weight in zip(
        batch.keys, written["advantages"].unbind(), written[LOSS_WEIGHT].unbind()
    ):
        found[key] = (
            float(advantage.max() if advantage.max() else advantage.min()),
            float(weight.max()),
        )
    return found, metrics, trainer


def advantages_by(
    estimator: str, groups: dict[str, list[tuple[Any, Any]]]
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Of every row the largest advantage and the trained tokens, and the metrics, with an estimator
    of verl's own.
    """
    keys = put(groups)
    put_log_probs(keys)
    trainer = bare("sync", f"algorithm.adv_estimator={estimator}")
    metrics: dict[str, float] = {}
    tags = tq.kv_list()["train"]
    batch = KVBatchMeta(partition_id="train", keys=keys, tags=[tags[key] for key in keys])
    assert trainer._compute_advantage(batch, metrics).keys == keys
    data = tq.kv_batch_get(
        keys=keys, partition_id="train", select_fields=["advantages", "response_mask"]
    )
    strongest = [float(row[row.abs().argmax()]) for row in data["advantages"].unbind()]
    return (
        dict(zip(keys, strongest)),
        dict(zip(keys, (float(mask.sum()) for mask in data["response_mask"].unbind()))),
        metrics,
    )


def expected(
    keys: list[str], groups: dict[str, list[tuple[Any, Any]]], beta: float = 0.0, per_step: int = 2
) -> dict[str, tuple[float, float]]:
    """The oracle's advantage and weight of every row. Groups are dealt to steps in the order of
    their rows.
    """
    order = list(dict.fromkeys(key.split("_")[0] for key in keys))
    steps = -(-len(order) // per_step)
    world = {}
    for group, trajectories in groups.items():
        made = []
        for reward, lengths in trajectories:
            turns = (
                [oracle.Turn([], [], [], [0])]
                if lengths == NO_TURN
                else [oracle.Turn([], [], [], [1] * length) for length in lengths]
            )
            penalty = (
                beta * 0.5 * sum(turn.tokens for turn in turns)
            )  # KL estimated as old - ref = 0.5 a token
            made.append(
                oracle.Trajectory(
                    0.0 if reward == FAULT else reward - penalty, turns, reward != FAULT
                )
            )
        world[group] = oracle.Group(made, order.index(group) * steps // len(order))
    found = {}
    for group, members in world.items():
        for session, trajectory in enumerate(members.trajectories):
            for index, turn in enumerate(
                trajectory.turns if trajectory.valid else trajectory.turns[:1]
            ):
                weight = oracle.weight(
                    list(world.values()), members, trajectory, turn, oracle.Options()
                )
                advantage = (
                    oracle.advantage(members, trajectory, oracle.Options()) if turn.tokens else 0.0
                )
                found[f"{group}_{session}_{index}"] = (advantage, weight)
    return found


def assert_weighed(
    found: dict[str, tuple[float, float]], wanted: dict[str, tuple[float, float]]
) -> None:
    assert set(wanted) <= set(found)
    for key, figures in found.items():
        assert figures == pytest.approx(wanted.get(key, (0.0, 0.0)), rel=1e-5, abs=1e-7), (
            key
        )  # what is not wanted is padding


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("beta", [0.0, BETA])
def test_faults_thin_groups_flat_groups_and_padding_are_weighed_as_the_oracle_does(ranks, beta):
    keys = put(MIXED)
    found, metrics, trainer = weigh(keys, f"algorithm.use_kl_in_reward={bool(beta)}", ranks=ranks)
    assert_weighed(found, expected(keys, MIXED, beta))
    assert trainer._steps == 3
    assert len(found) % (ranks * trainer._steps) == 0
    assert metrics["agentflow/outcome/infra_error"] == 3 / 15
    assert metrics["agentflow/thin_groups"] == 1 / 5
    assert metrics["agentflow/rows"] == len(keys)


def test_a_batch_of_faults_stops_the_run_and_says_why():
    keys = put({"c": MIXED["c"]})
    with pytest.raises(
        InfraError,
        match=r"2 of 3 trajectories .* agentflow.max_fault_rate=0.5; the last: the server is gone",
    ):
        weigh(keys)
    weigh(keys, "agentflow.max_fault_rate=0.7")


def test_rollout_correction_adds_a_weight_a_token_and_moves_neither_advantage_nor_weight():
    keys = put(MIXED)
    plain, *_ = weigh(keys)
    corrected, metrics, _ = weigh(keys, "algorithm.rollout_correction.rollout_is=token")
    assert {key: corrected[key] for key in keys} == {key: plain[key] for key in keys}
    data = tq.kv_batch_get(
        keys=keys, partition_id="train", select_fields=["rollout_is_weights", "response_mask"]
    )
    for weight, mask in zip(data["rollout_is_weights"].unbind(), data["response_mask"].unbind()):
        assert torch.allclose(
            weight[mask.bool()], torch.ones(int(mask.sum()))
        )  # rollout and actor agree here
    assert any(name.startswith("rollout_corr/") for name in metrics)


def test_verls_own_grpo_compares_valid_trajectories_only():
    advantage, tokens, metrics = advantages_by("grpo", MIXED)
    clear()
    without, *_ = advantages_by(
        "grpo",
        {
            group: [t for t in made if t[0] != FAULT]
            for group, made in MIXED.items()
            if group != "c"
        },
    )
    assert {key: advantage[key] for key in without} == pytest.approx(without)
    assert without["b_0_0"] > 0 > without["b_1_0"] == without["b_1_1"]
    left_out = {key for key in advantage if key not in without}
    assert left_out == {"b_2_0", "c_0_0", "c_0_1", "c_1_0", "c_2_0"}
    assert not any(advantage[key] or tokens[key] for key in left_out)
    assert (
        metrics["agentflow/outcome/infra_error"] == 3 / 15
        and metrics["agentflow/thin_groups"] == 1 / 5
    )


def test_where_a_group_is_one_trajectory_by_choice_it_counts():
    advantage, tokens, _ = advantages_by(
        "reinforce_plus_plus", {"a": [(1.0, (2, 2))], "b": [(FAULT, (1,))], "e": [(0.0, (3,))]}
    )
    assert tokens == {"a_0_0": 2, "a_0_1": 2, "b_0_0": 0, "e_0_0": 3}
    assert advantage["a_0_0"] > 0 > advantage["e_0_0"] and advantage["b_0_0"] == 0


def test_a_batch_in_which_nothing_counts_teaches_nothing_whatever_the_estimator():
    advantage, tokens, _ = advantages_by("grpo", {"f": [(1.0, (2,)), (FAULT, (1,))]})
    assert not any(advantage.values()) and not any(tokens.values())


# ---- known bugs of the field: each check passes on ours and fails on the bug ----


def check_the_survivor_of_a_failed_group_teaches_nothing(weights_of: Any) -> None:
    keys = put({"c": MIXED["c"], "a": MIXED["a"]})
    found = weights_of(keys)
    assert all(found[key][1] == 0 for key in keys if key.startswith("c"))
    assert any(found[key][1] > 0 for key in keys if key.startswith("a"))


def test_the_survivor_of_a_failed_group_is_not_trained_on():
    def as_if_faults_were_wrong_answers(keys: list[str]) -> dict[str, tuple[float, float]]:
        clear()
        keys[:] = put(
            {
                "c": [
                    (0.0 if reward == FAULT else reward, lengths) for reward, lengths in MIXED["c"]
                ],
                "a": MIXED["a"],
            }
        )
        return weigh(keys)[0]

    check_the_survivor_of_a_failed_group_teaches_nothing(lambda keys: weigh(keys)[0])
    clear()
    with pytest.raises(AssertionError):
        check_the_survivor_of_a_failed_group_teaches_nothing(as_if_faults_were_wrong_answers)


def check_every_turn_is_trained(deal: Any) -> None:
    keys = put(MIXED)
    assert set(keys) <= set(deal(keys))


def test_agentflow_turns_that_do_not_fill_a_mini_batch_are_not_dropped():
    """The reference code discards rows at random until their number divides by the mini-batch."""
    check_every_turn_is_trained(lambda keys: weigh(keys, ranks=2)[0])
    clear()
    with pytest.raises(AssertionError):
        check_every_turn_is_trained(lambda keys: random.Random(0).sample(keys, len(keys) // 8 * 8))


def check_every_turn_of_a_trajectory_is_stored(outputs: list[Any]) -> None:
    worker = object.__new__(FlowWorker)
    worker.processor, worker.mm_processor_kwargs, worker.distillation_enabled = None, None, False
    worker.tools = SimpleNamespace(log=None)
    manager = FlowRewardManager(composed(), None, None)
    scores = SimpleNamespace(compute_score=SimpleNamespace(remote=manager.run_single))
    worker.reward_loop_worker_handles = [scores]
    row = {
        "uid": "m",
        "session_id": 0,
        "global_steps": 1,
        "data_source": "maths",
        "reward_model": {"ground_truth": "4"},
    }

    async def store() -> None:
        manager.loop = asyncio.get_running_loop()
        await worker._agent_loop_postprocess(outputs, validate=False, **row)

    asyncio.run(store())
    keys = ["m_0_0", "m_0_1", "m_0_2"]
    assert set(keys) <= set(tq.kv_list()["train"])
    data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["rm_scores"])
    assert [float(score.sum()) for score in data["rm_scores"].unbind()] == [1.0, 1.0, 1.0]


def test_verl_key_error_that_loses_trajectories_of_several_turns():
    """verl copies the last row's ``reward_extra_info`` to the others: a loop that scores by itself
    and sets none loses every trajectory but those of one turn."""
    turns = tuple(
        planned(index, Tokens(prompt_ids=(1,), response_ids=(5,), logprobs=(-1.0,)))
        for index in range(3)
    )
    trajectory = Trajectory(
        id="t", query="q", turns=turns, answer="4", outcome=Outcome.ANSWERED, timings={}
    )
    check_every_turn_of_a_trajectory_is_stored(
        to_rows(trajectory, placeholder_id=0, policy_version=1)
    )
    clear()
    scored = to_rows(trajectory, placeholder_id=0, policy_version=1)
    scored[-1].reward_score = 1.0
    with pytest.raises(KeyError, match="reward_extra_info"):
        check_every_turn_of_a_trajectory_is_stored(scored)


def test_loss_mask_follows_response_mask_of_what_is_left_out():
    """verl's engine counts tokens by loss_mask: what is left out must not thin the others' loss."""
    advantages_by("grpo", MIXED)
    keys = [key for key, tag in tq.kv_list()["train"].items() if not tag.get("is_prompt")]
    data = tq.kv_batch_get(
        keys=keys, partition_id="train", select_fields=["loss_mask", "response_mask"]
    )
    for loss_mask, mask in zip(data["loss_mask"].unbind(), data["response_mask"].unbind()):
        assert loss_mask.tolist() == mask.tolist()


def test_sequence_ratios_may_run_over_all_turns_of_a_trajectory():
    """rollout_is=sequence, by hand: exp(sum of old - rollout), at most the threshold."""
    keys = put({"a": MIXED["a"], "b": MIXED["b"]})
    settings = [
        "algorithm.rollout_correction.rollout_is=sequence",
        "algorithm.rollout_correction.rollout_is_threshold=3.0",
        "agentflow.flow_grpo.sequence=trajectory",
    ]
    shift = 0.2
    weigh(keys, *settings, old=-1.0 + shift)
    data = tq.kv_batch_get(
        keys=keys, partition_id="train", select_fields=["rollout_is_weights", "response_mask"]
    )
    tokens = {"a_0": 3, "a_1": 8, "a_2": 8, "b_0": 2, "b_1": 7, "b_2": 0}
    for key, weight, mask in zip(
        keys, data["rollout_is_weights"].unbind(), data["response_mask"].unbind()
    ):
        wanted = min(math.exp(shift * tokens[key.rsplit("_", 1)[0]]), 3.0)
        assert weight[mask.bool()].tolist() == pytest.approx([wanted] * int(mask.sum()))


@pytest.mark.parametrize("mode", ["sync", "separate_async"])
def test_a_batch_without_a_trained_token_is_a_step_without_an_update(mode):
    """separate_async keeps the weights all the same: later batches of the cycle are compared with
    them.
    """
    groups = {"a": [(1.0, NO_TURN), (0.0, NO_TURN)], "b": [(FAULT, (1,)), (0.0, NO_TURN)]}
    keys = put(groups)
    trainer = bare(mode, "data.train_batch_size=2")
    kept: list[int] = []
    trainer.actor_rollout_wg = SimpleNamespace(save_model_to_cpu=kept.append)
    tags = tq.kv_list()["train"]
    batch = KVBatchMeta(partition_id="train", keys=keys, tags=[tags[key] for key in keys])
    trainer.replay_buffer = SimpleNamespace(sample=lambda **_: (batch, {}))
    trainer.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])
    trainer.on_sample_begin = trainer.on_sample_end = lambda: None
    trainer.global_steps, trainer.local_trigger_step = 3, 0
    shown: list[int] = []
    trainer.progress = SimpleNamespace(show=lambda step, _: shown.append(step))
    metrics: dict[str, float] = {}
    found = trainer._step_once(metrics, {}, 2)
    trainer._compute_metrics(found, metrics, {"step": 1.0}, global_steps=3, epoch=0)
    assert metrics["agentflow/skipped_updates"] == 1
    assert metrics["agentflow/optimizer_steps"] == 0
    assert metrics["agentflow/trajectories"] == 4
    assert metrics["agentflow/outcome/infra_error"] == 1 / 4
    assert metrics["training/global_step"] == 3
    assert shown == [3]
    assert kept == ([0] if mode == "separate_async" else [])


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_optimizer_step_without_weight_is_left_out(ranks):
    """With a gradient of 0 Adam would still move the weights, by momentum and decay."""
    one, none = [(1.0, (3,)), (0.0, (2, 5))], [(1.0, (2,)), (FAULT, (1,))]
    keys = put({"a": one, "b": one, "c": none, "d": none, "e": one, "f": one})
    _, metrics, trainer = weigh(keys, "agentflow.max_fault_rate=0.9", ranks=ranks)
    assert trainer._steps == 3
    assert trainer._trained_steps == [0, 2]
    sent: list[KVBatchMeta] = []

    def update_actor(batch: KVBatchMeta) -> dict[str, Any]:
        sent.append(batch)
        return {"metrics": {"mfu": [0.0]}}

    trainer.actor_rollout_wg.update_actor = update_actor
    batch = trainer.balanced
    assert trainer._update_actor(batch, metrics) is batch
    assert {key.split("_")[0] for key in sent[0].keys if key in keys} == {"a", "b", "e", "f"}
    assert len(sent[0].keys) == len(batch.keys) * 2 // 3
    assert sent[0].extra_info["num_mini_batch"] == 2
    assert metrics["agentflow/optimizer_steps"] == 2
    assert metrics["agentflow/skipped_updates"] == 1


# ---- group filtering ----


def buffer_of(
    metric: str = "reward",
    *overrides: str,
    mode: str = "sync",
    refilled: Any = MIXED["a"],
) -> tuple[Any, list[int]]:
    """verl's own replay buffer as our trainer builds it, and how many prompts it asked for."""
    trainer = bare(
        mode,
        "algorithm.filter_groups.enable=true",
        f"algorithm.filter_groups.metric={metric}",
        "data.train_batch_size=2",
        *overrides,
    )
    trainer.trainer_mode = f"agentflow_{mode}"
    asked: list[int] = []

    def refill(count: int) -> None:
        asked.append(count)
        assert len(asked) < 50, "groups are asked for without end"
        put({f"new{len(asked)}x{number}": refilled for number in range(count)})

    trainer._add_prompts_to_generate = refill
    return trainer._build_replay_buffer(), asked


def test_group_filtering_evicts_what_teaches_nothing_and_refills_it():
    """Flat groups, flat but for a fault, and thin ones go; the replacements are weighed like any
    group.
    """
    flat_but_for_a_fault = [(1.0, (2,)), (1.0, (1, 1)), (FAULT, (3,))]
    put({"a": MIXED["a"], "c": MIXED["c"], "d": MIXED["d"], "f": flat_but_for_a_fault})
    buffer, asked = buffer_of()
    batch, metrics = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    groups = list(dict.fromkeys(key.split("_")[0] for key in batch.keys))
    assert (
        asked
        and len(groups) == 2
        and all(group == "a" or group.startswith("new") for group in groups)
    )
    assert metrics["training/filter_groups/evicted_samples"] == 3
    found, *_ = weigh(batch.keys)
    assert_weighed(found, expected(batch.keys, {group: MIXED["a"] for group in groups}))


def test_groups_may_be_filtered_by_another_figure_of_the_reward():
    put({"a": MIXED["a"]})
    buffer, _ = buffer_of("half")
    buffer._sync_metadata_from_transfer_queue()
    assert buffer._dapo_filtered_keys("train")[0] == {"a"}


def test_a_figure_that_the_reward_does_not_give_is_named():
    put({"a": MIXED["a"]})
    buffer, _ = buffer_of("f1")
    buffer._sync_metadata_from_transfer_queue()
    with pytest.raises(Exception, match="filter_groups.metric=f1: the reward gives reward, half"):
        buffer._dapo_filtered_keys("train")


MODES = ["sync", "colocate_async"]
DOWN = [(FAULT, (1,)), (FAULT, (2,)), (1.0, (1,))]
EASY = [(1.0, (1,)), (1.0, (2,)), (1.0, (1,))]


@pytest.mark.parametrize("mode", MODES)
def test_a_run_whose_servers_are_down_ends_although_its_groups_are_filtered(mode):
    """Groups of faults are evicted and asked again: in the batch alone there is no fault."""
    put({"x": DOWN, "y": DOWN})
    buffer, _ = buffer_of(mode=mode, refilled=DOWN)
    with pytest.raises(InfraError, match=r"of \d+ trajectories .* the last: the server is gone"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=2)


@pytest.mark.parametrize("mode", MODES)
def test_faults_count_over_what_was_sampled_also_where_a_batch_was_filled(mode):
    """Six faults of 10 (or, as the asynchronous buffer refills at once, 14): none in the batch."""
    mixed = [(1.0, (1,)), (0.0, (1,))]
    groups = {"x": [(FAULT, (1,))] * 3, "y": [(FAULT, (1,))] * 3, "a": mixed, "b": mixed}
    put(groups)
    buffer, _ = buffer_of("reward", "agentflow.max_fault_rate=0.4", mode=mode, refilled=mixed)
    with pytest.raises(InfraError, match="6 of (10|14) trajectories"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    clear()
    put(groups)
    buffer, _ = buffer_of("reward", "agentflow.max_fault_rate=0.8", mode=mode, refilled=mixed)
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    assert len({key.split("_")[0] for key in batch.keys}) == 2
    assert buffer.sampled.trajectories == 0, "the next batch is counted from nothing"


@pytest.mark.parametrize("mode", MODES)
def test_no_more_batches_are_generated_for_one_than_allowed(mode):
    put({"x": EASY, "y": EASY})
    limit = "algorithm.filter_groups.max_num_gen_batches=3"
    buffer, asked = buffer_of("reward", limit, mode=mode, refilled=EASY)
    with pytest.raises(InfraError, match=r"max_num_gen_batches=3: \d+ groups .* batch of 2, and 0"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    assert 3 * 2 <= 2 + sum(asked) <= 4 * 2


def test_groups_that_failed_for_good_are_faults_too():
    """Their agent loop raised, so no row tells of it, and the asynchronous buffer asks again."""
    trainer = bare("colocate_async", "data.train_batch_size=2")
    asked: list[int] = []

    def fail(count: int) -> None:
        asked.append(count)
        assert len(asked) < 50, "groups are asked for without end"
        for number in range(count):
            tag = {"is_prompt": True, "status": "failure", "global_steps": 1}
            tq.kv_put(key=f"f{len(asked)}x{number}", partition_id="train", tag=tag)

    fail(2)
    trainer._add_prompts_to_generate = fail
    buffer = trainer._build_replay_buffer()
    with pytest.raises(InfraError, match="the agent loop raised"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=2)


@pytest.mark.parametrize("mode", MODES)
def test_rows_come_in_the_order_of_the_data_however_fast_they_were(mode):
    """The fastest groups always came first, so they always were in the first optimizer step."""
    names = ["g3", "g1", "g4", "g0", "g2"]
    for name in names:
        tag = {"is_prompt": True, "status": "running", "global_steps": 1}
        tq.kv_put(key=name, partition_id="train", tag=tag)
    for name in reversed(names):  # the last question is answered first
        put({name: [MIXED["a"][0], MIXED["a"][1]]})
    trainer = bare(mode, "data.train_batch_size=5")
    trainer._add_prompts_to_generate = None
    buffer = trainer._build_replay_buffer()
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=4)
    each = ["0_0", "1_0", "1_1", "1_2"]
    assert batch.keys == [f"{name}_{row}" for name in names[:4] for row in each]


# ---- two starts with one seed ----


def questions_by_rank(start: str, speed: int, step: int, mode: str, *overrides: str) -> list[str]:
    """Rows in the order in which a fresh trainer gives them to its ranks, each as question,
    trajectory and turn. verl's uids differ by ``start``; trajectories end in an order that depends
    on ``speed``.
    """
    clear()
    uids = {f"{start}{number}": str(number) for number in range(6)}
    for uid in uids:
        tag = {"is_prompt": True, "status": "running", "global_steps": step}
        tq.kv_put(key=uid, partition_id="train", tag=tag)
    for uid in random.Random(speed).sample(sorted(uids), len(uids)):
        put({uid: MIXED["a"]}, step)
    trainer = bare(
        mode,
        "data.train_batch_size=6",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        *overrides,
    )
    trainer._add_prompts_to_generate = None
    trainer.use_reference_policy = True
    trainer.tokenizer = SimpleNamespace(eos_token_id=0)
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": [0, 1]})
    trainer.global_steps, trainer.local_trigger_step = step, 0
    batch, _ = trainer._build_replay_buffer().sample(
        global_steps=step, partition_id="train", batch_size=6
    )
    rows = []
    for key in trainer._balance_batch(batch, {}).keys:
        uid, _, row = key.partition("_")
        rows.append(f"{uids[uid]}_{row}" if uid in uids else "padding")
    return rows


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_two_starts_with_one_seed_train_the_same_rows_in_the_same_order(mode, shuffle):
    """Whatever ids verl draws and however fast the servers were; so does a run that resumed at this
    step.
    """
    settings = (mode, f"actor_rollout_ref.actor.shuffle={shuffle}")
    first = questions_by_rank("a", 1, 3, *settings)
    assert set(first) > {f"{number}_{row}" for number in range(6) for row in ("0_0", "1_2")}
    assert questions_by_rank("b", 2, 3, *settings) == first
    assert (questions_by_rank("c", 3, 4, *settings) != first) is shuffle
    another_seed = "actor_rollout_ref.actor.data_loader_seed=5"
    assert (questions_by_rank("d", 4, 3, *settings, another_seed) != first) is shuffle


# ---- which log-probabilities are old ----


class VersionedActor:
    """An actor whose log-probabilities name the version of its weights: version v gives -v/10 per
    token.
    """

    def __init__(self, version: int):
        self.version = version
        self.saved: dict[int, int] = {}

    def compute_log_prob(self, batch: KVBatchMeta) -> KVBatchMeta:
        data = tq.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["input_ids"])
        lengths = [len(ids) for ids in data["input_ids"].unbind()]
        columns = {
            name: torch.nested.as_nested_tensor(
                [torch.full((length,), value) for length in lengths], layout=torch.jagged
            )
            for name, value in (("log_probs", -self.version / 10), ("entropy", 0.0))
        }
        fields = TensorDict(columns, batch_size=len(batch.keys))
        tq.kv_batch_put(keys=batch.keys, partition_id="train", fields=fields)
        return batch

    def save_model_to_cpu(self, place: int) -> None:
        self.saved[place] = self.version

    def restore_model_from_cpu(self, place: int) -> None:
        self.version = self.saved[place]

    def clear_cpu_model(self, place: int) -> None:
        del self.saved[place]


@pytest.mark.parametrize("mode", [*MODES, "separate_async"])
def test_old_are_the_log_probabilities_of_the_weights_that_the_update_starts_from(mode):
    """Sampled by version 10 (-1.0 per token), trained from version 8. In separate_async, where
    version 7 is the second optimizer step of the cycle, its old ones are version 8's as well; the
    others compute them once per batch.
    """
    keys = put({"a": MIXED["a"]})
    trainer = bare(mode)
    trainer.actor_rollout_wg = VersionedActor(8)
    tags = tq.kv_list()["train"]
    batch = KVBatchMeta(partition_id="train", keys=keys, tags=[tags[key] for key in keys])
    wanted = {8: -0.8, 7: -0.8 if mode == "separate_async" else -0.7}
    for step, version in enumerate(wanted):
        trainer.local_trigger_step = step
        trainer.actor_rollout_wg.version = version
        trainer._compute_old_log_prob(batch, {})
        assert trainer.actor_rollout_wg.version == version
        columns = ["old_log_probs", "rollout_log_probs"]
        data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=columns)
        for old, rollout in zip(data["old_log_probs"].unbind(), data["rollout_log_probs"].unbind()):
            assert old.tolist() == pytest.approx([wanted[version]] * len(old))
            assert rollout.tolist() == [-1.0] * len(rollout)


@pytest.mark.parametrize("mode", [*MODES, "separate_async"])
def test_what_sampled_a_row_enters_by_rollout_correction_in_every_mode(mode):
    """By hand: exp(old - rollout) per token, at most the threshold."""
    keys = put({"a": MIXED["a"]})
    shift, threshold = {"below": 0.2, "above": 3.0}, 2.0
    for old in shift.values():
        _, metrics, _ = weigh(keys, *correction_of_recipe(mode), mode=mode, old=-1.0 + old)
        data = tq.kv_batch_get(
            keys=keys, partition_id="train", select_fields=["rollout_is_weights", "response_mask"]
        )
        for weight, mask in zip(
            data["rollout_is_weights"].unbind(), data["response_mask"].unbind()
        ):
            wanted = [min(math.exp(old), threshold)] * int(mask.sum())
            assert weight[mask.bool()].tolist() == pytest.approx(wanted)
        assert metrics["agentflow/policy_rollout_kl"] > 0


def correction_of_recipe(mode: str) -> list[str]:
    """``algorithm.rollout_correction`` of the mode's recipe; agentflow_sync has none of its own,
    and takes that of the others.
    """
    file = {"sync": "colocate", "colocate_async": "colocate", "separate_async": "separate"}[mode]
    recipe = yaml.safe_load((RECIPES / "async" / f"{file}.yaml").read_text())
    if mode != "sync":
        assert recipe["trainer"]["v1"]["trainer_mode"] == f"agentflow_{mode}"
    correction = recipe["algorithm"]["rollout_correction"]
    return [f"algorithm.rollout_correction.{name}={value}" for name, value in correction.items()]
