"""Every name of verl, vLLM and transformers that is no documented plugin point and that this
package leans on.

verl is installed as it is, but a plugin of its trainer must do more than its registries offer:
methods are overridden in subclasses, a few are replaced on live objects, and attributes are read.
All of them stand here, once, with the place upstream and the reason; those of the rollout engines
in verl_engines.py.
``tests/trainer/test_verl_api.py`` looks each of them up in the installed packages, and fails when
this package uses one that is not listed. After an upgrade of verl: run it, read each name that it
reports, and correct the line here.
"""

from __future__ import annotations

from agentflow_verl.trainer import verl_engines
from agentflow_verl.trainer.verl_name import Name, Owner

TRAINER = Owner(
    "verl.trainer.ppo.v1.trainer_base",
    "PPOTrainer",
    "verl/trainer/ppo/v1/trainer_base.py",
    (
        Name("__init__", "overridden", 120, "our log lines go where verl's go"),
        Name("trainer_mode", "overridden", 129, "verl compares it with its own modes' names"),
        Name("_setup", "overridden", 226, "with LoRA, rollout servers that can leave it off"),
        Name(
            "_build_replay_buffer",
            "overridden",
            139,
            "verl names the buffer's class inside; the one it built hands over its state",
        ),
        Name(
            "_init_resource_pool_mgr",
            "overridden",
            788,
            "verl fixes the actor worker's class here; ours holds the loss",
        ),
        Name("_balance_batch", "repeated", 1608, "verl splits by rows; groups must stay whole"),
        Name(
            "_compute_advantage",
            "repeated",
            1743,
            "a registered estimator is told neither trajectory nor turn",
        ),
        Name("_update_actor", "repeated", 1827, "mini-batches are counted in groups here"),
        Name("_step_once", "overridden", 562, "a batch without a trained token ends early"),
        Name("_compute_old_log_prob", "overridden", 1634, "marks the batch for shared prefixes"),
        Name("_compute_ref_log_prob", "overridden", 1695, "marks the batch for shared prefixes"),
        Name("local_trigger_step", "read", 136, "the seed of the shuffle"),
        Name("fit", "overridden", 412, "watches the processes that trajectories need"),
        Name("on_init_end", "overridden", 616, "what verl tells its servers gets a time limit"),
        Name("_load_checkpoint", "overridden", 850, "sets aside what was logged after it"),
        Name("_reissue_inflight_prompts", "overridden", 910, "its questions are logged again"),
        Name("_compute_metrics", "overridden", 1868, "progress is shown once per step"),
        Name("config", "read", 121, "the run's configuration"),
        Name("tokenizer", "read", 704, "the padding rows' token"),
        Name("actor_rollout_wg", "read", 328, "the actor's worker group"),
        Name("use_reference_policy", "read", 124, "whose micro-batch size rows must fit"),
        Name("kl_ctrl_in_reward", "read", 127, "the coefficient of algorithm.use_kl_in_reward"),
        Name("role_worker_mapping", "read", 791, "the actor worker's class is exchanged in it"),
        Name("replay_buffer", "read", 131, "the watch is set on it"),
        Name("checkpoint_manager", "replaced", 383, "with time limits; workers are told"),
        Name(
            "standalone_checkpoint_manager",
            "replaced",
            166,
            "the same, of the servers of separate_async",
            file="verl/trainer/ppo/v1/trainer_separate_async.py",
        ),
        Name("global_steps", "read", 851, "shown, and the seed of the shuffle"),
        Name("total_training_steps", "read", 771, "shown"),
    ),
)

REPLAY_BUFFER = Owner(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer",
    "verl/trainer/ppo/v1/replay_buffer.py",
    (
        Name("sample", "overridden", 422, "faults are counted per batch"),
        Name("_dapo_filtered_keys", "repeated", 261, "verl takes a fault for a reward of 0"),
        Name("_evict_terminal_groups", "overridden", 345, "failed groups count as faults"),
        Name("_select_prompt_uids", "overridden", 383, "ties are broken by the data's order"),
        Name("_materialize_batch", "overridden", 394, "rows come in the data's order"),
        Name("_wait_for_next_poll", "overridden", 408, "looks for dead processes while it waits"),
        Name("_dapo_classification_cache", "read", 192, "a finished group is read once"),
        Name("finished_keys", "read", 187, "groups that are done"),
        Name("partitions", "read", 184, "rows by key"),
        Name("prompt_global_steps", "read", 190, "in the data's order, as TransferQueue keeps it"),
        Name("filter_groups_metric", "read", 159, "what groups are compared by"),
        Name("poll_interval", "replaced", 157, "0.1 s; verl's 2 s are idle time of each step"),
    ),
)

WORKER_GROUP = Owner(
    "verl.single_controller.base.worker_group",
    "WorkerGroup",
    "verl/single_controller/base/worker_group.py",
    (
        Name("_dispatch_info", "read", 145, "the actor's data-parallel size, as verl reads it"),
        Name(
            "_query_dispatch_info",
            "called",
            103,
            "fills it, as verl does",
            file="verl/single_controller/base/worker.py",
        ),
    ),
)

AGENT_LOOP = "verl/experimental/agent_loop/agent_loop.py"

LOOP_WORKER = Owner(
    "verl.experimental.agent_loop.agent_loop",
    "AgentLoopWorker",
    AGENT_LOOP,
    (
        Name("__init__", "overridden", 491, "the policy's client aborts what is cancelled"),
        Name(
            "generate_sequences",
            "overridden",
            59,
            "engines and tools are opened before the first trajectory",
            file="verl/trainer/ppo/v1/agent_loop_tq.py",
        ),
        Name(
            "_agent_loop_postprocess",
            "overridden",
            150,
            "a validation's fault is logged and not scored 0",
            file="verl/trainer/ppo/v1/agent_loop_tq.py",
        ),
        Name("_compute_score", "overridden", 967, "scores a trajectory once, then logs it"),
        Name("_run_agent_loop", "overridden", 661, "knows whether the trajectory is validation"),
        Name("config", "read", 498, "the run's configuration"),
        Name("rollout_config", "read", 504, "token limits"),
        Name("llm_client", "read", 499, "the policy's servers"),
        Name("tokenizer", "read", 508, "prompts are rendered with it"),
        Name("tools", "replaced", 528, "what trajectories share is handed over as verl's tools"),
    ),
)

LOOP = Owner(
    "verl.experimental.agent_loop.agent_loop",
    "AgentLoopBase",
    AGENT_LOOP,
    (
        Name("__init__", "overridden", 224, "takes what trajectories share"),
        Name("run", "overridden", 449, "one trajectory; returns one output per planner turn"),
        Name("config", "read", 235, "the run's configuration"),
        Name("rollout_config", "read", 236, "token limits"),
        Name("server_manager", "read", 237, "the policy's client"),
        Name("tokenizer", "read", 238, "prompts are rendered with it"),
        Name("apply_chat_template_kwargs", "read", 242, "prompts are rendered with them"),
    ),
)

LOOP_MODULE = Owner(
    "verl.experimental.agent_loop.agent_loop",
    "",
    AGENT_LOOP,
    (Name("_agent_loop_registry", "read", 467, "`agentflow doctor` looks ours up"),),
)

LOOP_MANAGER = Owner(
    "verl.experimental.agent_loop.agent_loop",
    "AgentLoopManager",
    AGENT_LOOP,
    (
        Name("__init__", "overridden", 1183, "chooses our worker's class"),
        Name(
            "create",
            "overridden",
            237,
            "frozen base and tool servers start with the workers",
            file="verl/trainer/ppo/v1/agent_loop_tq.py",
        ),
        Name(
            "generate_sequences",
            "overridden",
            243,
            "within a time limit",
            file="verl/trainer/ppo/v1/agent_loop_tq.py",
        ),
        Name("_init_agent_loop_workers", "called", 1208, "starts the workers"),
        Name("agent_loop_workers_class", "replaced", 1198, "the worker's class is ours"),
        Name("agent_loop_workers", "read", 1209, "they are watched"),
        Name("config", "read", 1190, "the run's configuration"),
    ),
)

CLIENT = Owner(
    "verl.workers.rollout.llm_server",
    "LLMServerClient",
    "verl/workers/rollout/llm_server.py",
    (
        Name(
            "_acquire_server",
            "replaced",
            70,
            "verl leaves the request of a cancelled call running in the server",
        ),
        Name("generate", "called", 99, "asks the policy"),
    ),
)

REPLICA = Owner(
    "verl.workers.rollout.replica",
    "RolloutReplica",
    "verl/workers/rollout/replica.py",
    (
        Name("get_ray_class_with_init_args", "overridden", 228, "no engine receives weights"),
        Name("init_standalone", "called", 189, "starts a frozen server"),
        Name("servers", "read", 127, "they are watched, and ended"),
        Name("workers", "read", 123, "they are ended"),
        Name("config", "read", 104, "the server's name"),
        Name("replica_rank", "read", 103, "the server's name, in Ray and in messages"),
        Name("name_suffix", "read", 120, "the server's name"),
    ),
)

ENGINE_WORKERS = "verl/workers/engine_workers.py"

ACTOR_WORKER = Owner(
    "verl.workers.engine_workers",
    "ActorRolloutRefWorker",
    ENGINE_WORKERS,
    (
        Name("init_model", "overridden", 539, "sets the loss once the actor is there"),
        Name("actor_worker_cls", "overridden", 459, "the CPU's starts gloo first"),
        Name("ref_worker_cls", "overridden", 460, "the CPU's starts gloo first"),
        Name("actor", "read", 470, "whose loss is set"),
        Name("loss_fn", "read", 639, "verl's, for the actor's configuration"),
    ),
)

TRAINING_WORKER = Owner(
    "verl.workers.engine_workers",
    "TrainingWorker",
    ENGINE_WORKERS,
    (
        Name("__init__", "overridden", 84, "the CPU's starts gloo first"),
        Name("set_loss_fn", "called", 170, "verl's own setter"),
    ),
)

FSDP_ENGINE = Owner(
    "verl.workers.engine.fsdp.transformer_impl",
    "FSDPEngine",
    "verl/workers/engine/fsdp/transformer_impl.py",
    (
        Name("_build_fsdp_module", "overridden", 385, "no pinned memory on a CPU"),
        Name("engine_config", "read", 131, "the reference's, and how entropy is computed"),
        Name(
            "forward_backward_batch",
            "repeated",
            724,
            "micro-batches hold whole groups and count distinct tokens",
        ),
        Name("_gradient_sync_context", "called", 692, "as verl's own loop over micro-batches"),
        Name("compute_entropy_from_logits", "called", 183, "the entropy of each position"),
        Name("scaler", "read", 170, "scales the loss in fp16"),
        Name("_autocast_dtype", "read", 403, "how exactly two ways of computing can agree"),
        Name("module", "read", 625, "whose attention is chosen"),
    ),
)

LM_HEAD_ENGINE = Owner(
    "verl.workers.engine.fsdp.transformer_impl",
    "FSDPEngineWithLMHead",
    "verl/workers/engine/fsdp/transformer_impl.py",
    (
        Name("prepare_model_inputs", "repeated", 1145, "a micro-batch is one packed tree"),
        Name(
            "prepare_model_outputs", "repeated", 1332, "the tree's values in the layout of the rows"
        ),
        Name("forward_step", "called", 1549, "tries a few rows both ways"),
    ),
)

MODEL_CONFIG = Owner(
    "transformers.configuration_utils",
    "PreTrainedConfig",
    "transformers/configuration_utils.py",
    (Name("_attn_implementation", "replaced", 0, "chooses the attention of a batch"),),
)

MODEL_CLASS = Owner(
    "transformers.modeling_utils",
    "PreTrainedModel",
    "transformers/modeling_utils.py",
    (
        Name("_supports_attention_backend", "read", 0, "whether a model can share prefixes"),
        Name("_supports_sdpa", "read", 0, "whether a model can be trained without flash-attn"),
        Name("_is_stateful", "read", 0, "whether a model can share prefixes"),
    ),
)

WEIGHT_SYNC = Owner(
    "verl.checkpoint_engine.base",
    "CheckpointEngineManager",
    "verl/checkpoint_engine/base.py",
    (
        Name("abort_replicas", "overridden", 477, "the pause is not charged to trajectories"),
        Name("resume_generation_replicas", "overridden", 487, "the pause ends"),
        Name("sleep_replicas", "called", 467, "within a time limit"),
        Name("update_weights", "called", 510, "within a time limit"),
        Name("replicas", "read", 420, "their servers are watched"),
    ),
)

REWARD_MANAGER = Owner(
    "verl.experimental.reward_loop.reward_manager.base",
    "RewardManagerBase",
    "verl/experimental/reward_loop/reward_manager/base.py",
    (
        Name("__init__", "overridden", 37, "takes a custom reward function as it is"),
        Name("run_single", "overridden", 58, "scores the typed record"),
    ),
)

DIGESTS = {
    "_build_replay_buffer": "c6c5bd0783311ea3",
    "_init_resource_pool_mgr": "9eaa3bab711e4deb",
    "_balance_batch": "f9b6e887d7504a65",
    "_compute_advantage": "2a4a2aa4a475b228",
    "_update_actor": "d7009bd8a69d40b9",
    "_dapo_filtered_keys": "790dfb4e7ffb4d1b",
    "forward_backward_batch": "be92c8d155f0c179",
    "prepare_model_inputs": "e7a30a3b61b58c8b",
    "prepare_model_outputs": "5239f536e8f617e3",
}
"""Of verl's source where we repeat it or lean on its text: the first 16 digits of its sha256."""

# All of the above, so that none is forgotten, and those of the rollout engines.
_TABLE = [*globals().values(), *vars(verl_engines).values()]
OWNERS = tuple(value for value in _TABLE if isinstance(value, Owner))


def names() -> set[str]:
    """All names of the table."""
    found: set[str] = set()
    for owner in OWNERS:
        found.update(name.name for name in owner.names)
    return found
