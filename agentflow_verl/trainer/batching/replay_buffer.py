"""What of verl's replay buffer is ours: which finished groups a batch takes, and in which order.

verl knows a sampled batch by its keys in TransferQueue. Four things are changed, each a method:

    _dapo_filtered_keys   groups are filtered by their valid trajectories (filtering.py)
    _select_prompt_uids   of groups equally old, those that come first in the data are taken
    _materialize_batch    rows come in the data's order; verl's come in the order they were finished
    _wait_for_next_poll   each wait first looks whether the processes behind the run are alive

and what is sampled is counted (``SampledFaults``), so that a run whose servers are down ends
although each group of faults is evicted and asked again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transfer_queue import KVBatchMeta

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.batching import filtering
from agentflow_verl.trainer.batching.dealing import split_key
from agentflow_verl.trainer.resilience.fault_limit import SampledFaults

if TYPE_CHECKING:
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
else:  # verl's trainers import ours (plugin.py), which import this module: no circle
    ReplayBuffer = object

POLL_S = 0.1  # verl's 2 s are 2 s of idle per step


def flow_replay_buffer(
    buffer: ReplayBuffer, *, rollout_n: int, max_fault_rate: float, max_num_gen_batches: int
) -> FlowReplayBuffer:
    """``buffer``, as verl built it from the configuration, with the methods of this module.

    verl names the class of its buffer inside the method that builds it (trainer_base.py:153), so
    the one it built hands its state to a subclass of its own class.
    """
    ours = type("FlowReplayBuffer", (FlowReplayBuffer, type(buffer)), {})
    # Without __init__: the state is made already.
    made: FlowReplayBuffer = object.__new__(ours)
    vars(made).update(vars(buffer))
    made.poll_interval = POLL_S
    made.before_wait = lambda: None
    made.rollout_n = rollout_n
    made.max_fault_rate = max_fault_rate
    made.max_num_gen_batches = max_num_gen_batches
    made.wanted_groups = None
    made.sampled = SampledFaults()
    return made


class FlowReplayBuffer(ReplayBuffer):
    """A mixin over verl's ReplayBuffer or ReplayBufferAsync."""

    before_wait: Callable[[], None]
    """Called before each wait for trajectories; raises when there is nothing left to wait for."""
    rollout_n: int
    max_fault_rate: float
    max_num_gen_batches: int
    wanted_groups: int | None
    """Groups of the batch that is being sampled."""
    sampled: SampledFaults
    """What was sampled since the last batch was complete."""

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[KVBatchMeta, dict[str, Any]]:
        if partition_id != "val":
            self.wanted_groups = batch_size
        batch, metrics = super().sample(
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        if partition_id == "val":
            return batch, metrics
        if self.filter_groups_metric is None:
            # Only failed groups were counted so far; faults within the batch are counted where its
            # rows are read (stop_on_faults).
            self.sampled.add_group(len({split_key(key)[:2] for key in batch.keys}), [])
        self.sampled.check(self.max_fault_rate)
        self.sampled = SampledFaults()
        return batch, metrics

    def _dapo_filtered_keys(self, partition_id: str) -> tuple[set[str], Counter[float]]:
        """In the place of replay_buffer.py:261, which compares rows and takes a fault for a 0."""
        if partition_id == "val" or self.filter_groups_metric is None:
            return set(), Counter()
        known = self._dapo_classification_cache[partition_id]
        finished = self.finished_keys[partition_id]
        for uid in known.keys() - finished:
            del known[uid]
        for uid, group in filtering.read_groups(
            self, partition_id, finished - known.keys()
        ).items():
            known[uid] = filtering.shared_value(group.values)
            self.sampled.add_group(group.trajectories, group.faults)
        filtered = {uid: value for uid, value in known.items() if value is not None}
        self._stop_where_sampling_leads_nowhere(len(finished) - len(filtered))
        return set(filtered), Counter(filtered.values())

    def _stop_where_sampling_leads_nowhere(self, kept: int) -> None:
        """Raise InfraError where a batch's worth of groups are faults, or as many groups as allowed
        hold too few that teach anything."""
        wanted = self.wanted_groups
        if wanted is None or kept >= wanted:
            return
        if self.sampled.groups >= wanted:
            self.sampled.check(self.max_fault_rate)
        limit = self.max_num_gen_batches
        if limit > 0 and self.sampled.groups >= limit * wanted:
            raise InfraError(
                f"algorithm.filter_groups.max_num_gen_batches={limit}: {self.sampled.groups} groups"
                f" were sampled for a batch of {wanted}, and {kept} of them teach anything. Take"
                " questions of another difficulty, raise the limit, or set it to 0 for no limit;"
                " the same command resumes from the last checkpoint"
            )

    def _evict_terminal_groups(
        self,
        global_steps: int,
        partition_id: str,
        eviction_reasons: tuple[set[str], set[str], set[str], Counter[float]],
    ) -> tuple[set[str], int, int, dict[str, Any]]:
        """verl's, with the sessions of failed groups counted: their loop raised and left no row."""
        failed = eviction_reasons[2]
        for _ in failed:
            self.sampled.add_group(
                self.rollout_n, ["the agent loop raised; see the worker's log"] * self.rollout_n
            )
        if failed and self.wanted_groups is not None and self.sampled.groups >= self.wanted_groups:
            self.sampled.check(self.max_fault_rate)
        evicted: tuple[set[str], int, int, dict[str, Any]] = super()._evict_terminal_groups(
            global_steps, partition_id, eviction_reasons
        )
        return evicted

    def _select_prompt_uids(
        self, partition_id: str, sampleable_keys: set[str], batch_size: int
    ) -> tuple[list[str], dict[str, Any], dict[str, int]]:
        """verl's selection with ties broken by the data's order rather than by the hash of a random
        id, so that a run can be reproduced.
        """
        steps = dict(self.prompt_global_steps[partition_id])
        # TransferQueue keeps the order in which prompts were put, which is the data's.
        position = dict(zip(steps, itertools.count()))
        ordered = sorted(
            sampleable_keys, key=lambda uid: (steps.get(uid, 0), position.get(uid, len(position)))
        )
        return ordered[:batch_size], dict(self.partitions[partition_id]), steps

    def _materialize_batch(
        self,
        partition_id: str,
        selected_prompt_uids: list[str],
        partition_snapshot: dict[str, dict[str, Any]],
    ) -> KVBatchMeta:
        """verl's batch with rows ordered by group as selected, then session, then turn."""
        place = dict(zip(selected_prompt_uids, itertools.count()))

        def order(key: str) -> tuple[int, int, int]:
            uid, session, turn = split_key(key)
            return place[uid], session, turn

        keys = [key for key in partition_snapshot if split_key(key)[0] in place]
        keys.sort(key=order)
        ordered = {key: partition_snapshot[key] for key in keys}
        return super()._materialize_batch(partition_id, selected_prompt_uids, ordered)

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        self.before_wait()
        waited: float = super()._wait_for_next_poll(partition_id, last_debug_time)
        return waited
