"""A run from its start or its checkpoint to its end: a mixin over verl's PPOTrainer.

It overrides five methods of verl's:

    on_init_end                puts a time limit on what verl tells the policy's servers
    fit                        watches the processes that trajectories need, announces weight
                               updates to the workers, closes what the manager started
    _load_checkpoint           says where the run resumes, sets aside what was logged after that
    _reissue_inflight_prompts  in the asynchronous modes, sets aside what was logged of questions
                               that are asked again
    _compute_metrics           shows the step
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transfer_queue as tq
from ray.exceptions import RayActorError
from transfer_queue import KVBatchMeta

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.batching.replay_buffer import FlowReplayBuffer
from agentflow_verl.trainer.logs import log_beside_verl
from agentflow_verl.trainer.progress import Progress
from agentflow_verl.trainer.resilience.actor_watch import ActorWatch
from agentflow_verl.trainer.resilience.control_limit import LimitedManager
from agentflow_verl.trainer.resilience.log_rollback import set_aside_groups, set_aside_steps
from agentflow_verl.trainer.rollout.weight_sync import AnnouncingManager

if TYPE_CHECKING:
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
else:  # verl's trainers import ours (plugin.py), which import this module: no circle
    PPOTrainer = object

logger = logging.getLogger(__name__)


class ResumableTrainer(PPOTrainer):
    """The mixin."""

    replay_buffer: FlowReplayBuffer
    progress: Progress

    def __init__(self, *args: Any, **kwargs: Any):
        log_beside_verl()
        super().__init__(*args, **kwargs)

    def on_init_end(self) -> None:
        limit_s = self.config.agentflow.server_timeout_s
        for name in self._checkpoint_managers():
            setattr(self, name, LimitedManager(getattr(self, name), limit_s))
        super().on_init_end()

    def _checkpoint_managers(self) -> list[str]:
        """Attributes that hold one, the standalone servers' first."""
        names = ("standalone_checkpoint_manager", "checkpoint_manager")
        return [name for name in names if hasattr(self, name)]

    def fit(self, agent_loop_manager: Any) -> None:
        actors = agent_loop_manager.actors()
        for name in self._checkpoint_managers():
            actors.update(getattr(self, name).servers())
        watch = ActorWatch(
            actors,
            prompt=agent_loop_manager.workers(),
            silent_after_s=self.config.agentflow.server_timeout_s,
        )
        self.replay_buffer.before_wait = watch.check
        self._announce_weight_updates(agent_loop_manager.workers())
        self.progress = Progress(self.total_training_steps)
        try:
            super().fit(agent_loop_manager)
        except (RayActorError, InfraError):
            watch.explain()  # names what died; faults of trajectories are its consequence
            raise
        finally:
            agent_loop_manager.close()

    def _announce_weight_updates(self, workers: Mapping[str, Any]) -> None:
        """Put ``AnnouncingManager`` over the servers that trajectories wait for: in separate_async
        the standalone ones. Its colocated ones turn requests away, which the client notices.
        """
        limited = getattr(self, self._checkpoint_managers()[0])
        limited.manager = AnnouncingManager(limited.manager, list(workers.values()))
        limited.told = workers

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps:
            logger.warning(
                "resumed from the checkpoint of step %d: weights, optimizer, data order and random"
                " state are its own",
                self.global_steps,
            )
        if self._log is not None:
            set_aside_steps(
                self._log, self.global_steps, self.config.trainer.get("val_before_train", True)
            )

    def _reissue_inflight_prompts(self, partition_id: str = "train") -> int:
        if self.trainer_mode != "sync" and self._log is not None:
            tags = (tq.kv_list(partition_id) or {}).get(partition_id, {})
            again = {
                key
                for key, tag in tags.items()
                if tag.get("is_prompt") and tag.get("status") in ("pending", "running")
            }
            set_aside_groups(self._log, again)
        return super()._reissue_inflight_prompts(partition_id)

    def _compute_metrics(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        timing_raw: dict[str, float],
        global_steps: int,
        epoch: int,
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        self.progress.show(global_steps, metrics)

    @property
    def _log(self) -> Path | None:
        folder = self.config.agentflow.trajectory_dir
        return Path(folder) if folder else None
