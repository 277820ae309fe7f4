"""Every option of verl in the sections that decide what is learnt, and what becomes of it.

verl 0.9.1; a test compares the table with the configuration of the installed verl, so a new key of
a new verl is noticed.
"""

from __future__ import annotations

from agentflow_verl.trainer.policy_losses import SUPPORTED
from agentflow_verl.trainer.preflight.option import DEFAULT, Option, honoured, only_with, unread

SECTIONS = (
    "actor_rollout_ref.actor",
    "actor_rollout_ref.ref",
    "actor_rollout_ref.rollout",
    "algorithm",
    "reward",
    "reward_model",
    "custom_reward_function",
    "sandbox_fusion",
)
ACTOR, REF, ROLLOUT = SECTIONS[:3]
MANAGER = "pkg://agentflow_verl.trainer.rollout.reward_manager"
KL_TYPES = ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3")
KL_TYPES_WITH_K2_GRADIENT = ("kl+", "k1+", "abs+", "low_var_kl+", "k3+")

OF_ENGINE = "verl's training engine reads it; it changes how a step is computed, not what"
OF_SERVER = "verl's rollout servers read it"

OPTIONS: tuple[Option, ...] = (
    # ---- actor: the update ----
    *honoured(ACTOR, OF_ENGINE, "optim.*", "fsdp_config.*", "checkpoint.*", "profiler.*", "qat.*"),
    *honoured(
        ACTOR,
        OF_ENGINE,
        "_target_",
        "strategy",
        "use_torch_compile",
        "use_fused_kernels",
        "use_remove_padding",
        "ulysses_sequence_parallel_size",
        "entropy_from_logits_with_chunking",
        "entropy_from_logits_chunk_size",
        "entropy_checkpointing",
        "pad_to_length",
        "rollout_n",
    ),
    *honoured(ACTOR, "questions (groups) per optimizer step", "ppo_mini_batch_size"),
    *honoured(ACTOR, "passes over a batch, in the same optimizer steps", "ppo_epochs"),
    *honoured(ACTOR, "shuffles groups over optimizer steps, by the seed", "shuffle"),
    *honoured(ACTOR, "the seed of `shuffle`", "data_loader_seed"),
    *honoured(
        ACTOR,
        "how a step is split; its value does not depend on it",
        "ppo_micro_batch_size_per_gpu",
        "use_dynamic_bsz",
        "ppo_max_token_len_per_gpu",
    ),
    *honoured(ACTOR, "the bounds of the ratio", "clip_ratio_low", "clip_ratio_high"),
    *honoured(ACTOR, "dual clip; agentflow's default turns it off", "clip_ratio_c"),
    *honoured(ACTOR, "the entropy bonus, weighted like the rest", "entropy_coeff"),
    *honoured(ACTOR, "logs the entropy", "calculate_entropy"),
    *honoured(ACTOR, "the KL term of the objective", "use_kl_loss"),
    Option(
        f"{ACTOR}.kl_loss_coef", "it needs use_kl_loss=true", (DEFAULT,), f"{ACTOR}.use_kl_loss"
    ),
    Option(
        f"{ACTOR}.kl_loss_type",
        f"choose one of {', '.join(KL_TYPES)}, with + for the gradient of k2",
        (*KL_TYPES, *KL_TYPES_WITH_K2_GRADIENT),
    ),
    Option(
        f"{ACTOR}.policy_loss.loss_mode",
        f"choose one of {', '.join(SUPPORTED)}, or another algorithm.adv_estimator",
        SUPPORTED,
    ),
    *honoured(ACTOR, OF_ENGINE, "policy_loss._target_"),
    *honoured(ACTOR, "of loss_mode=dro, which requires it", "policy_loss.dro_beta"),
    *unread(
        ACTOR,
        "it belongs to clip_cov and kl_cov, which flow_grpo refuses; see clip_ratio_high",
        "policy_loss.clip_cov_ratio",
        "policy_loss.clip_cov_lb",
        "policy_loss.clip_cov_ub",
        "policy_loss.kl_cov_ratio",
        "policy_loss.ppo_kl_coef",
    ),
    *honoured(ACTOR, "of loss_mode=sapo", "tau_pos", "tau_neg"),
    *unread(
        ACTOR,
        "verl reads it only where clip_ratio_low and clip_ratio_high are null; set those two",
        "clip_ratio",
    ),
    *unread(
        ACTOR,
        "flow_grpo weighs every token by 1/(N G T |a|); agentflow.flow_grpo.trajectory_weight=false"
        " weighs turns alike, and another algorithm.adv_estimator leaves the aggregation to verl",
        "loss_agg_mode",
        "loss_scale_factor",
    ),
    *unread(
        ACTOR,
        "nothing that flow_grpo computes needs it; leave it false",
        "calculate_sum_pi_squared",
    ),
    *unread(
        ACTOR,
        "it packs the answers to one prompt together, and each turn has a prompt of its own; leave"
        " it false (the rollout servers' prefix cache is on)",
        "use_prefix_grouper",
    ),
    *unread(ACTOR, "verl 0.9.1 does not read it", "freeze_vision_tower", everywhere=True),
    *unread(
        ACTOR, "verl 0.9.1 does not read it; set optim.clip_grad", "grad_clip", everywhere=True
    ),
    *unread(ACTOR, "it is deprecated; set ppo_micro_batch_size_per_gpu", "ppo_micro_batch_size"),
    # ---- reference ----
    *honoured(
        REF,
        OF_ENGINE,
        "_target_",
        "rollout_n",
        "strategy",
        "use_torch_compile",
        "log_prob_micro_batch_size_per_gpu",
        "log_prob_use_dynamic_bsz",
        "log_prob_max_token_len_per_gpu",
        "ulysses_sequence_parallel_size",
        "entropy_from_logits_with_chunking",
        "entropy_from_logits_chunk_size",
        "entropy_checkpointing",
        "pad_to_length",
        "profiler.*",
        "fsdp_config.*",
    ),
    *unread(
        REF,
        "it is deprecated; set log_prob_micro_batch_size_per_gpu",
        "log_prob_micro_batch_size",
    ),
    # ---- algorithm ----
    *honoured("algorithm", "flow_grpo, or an estimator of verl's", "adv_estimator", "_target_"),
    *honoured("algorithm", "the KL penalty of the reward", "use_kl_in_reward"),
    *only_with(
        "algorithm",
        "algorithm.use_kl_in_reward",
        "it needs algorithm.use_kl_in_reward=true; actor_rollout_ref.actor.kl_loss_coef is the"
        " coefficient of the loss's KL term",
        "kl_penalty",
        "kl_ctrl.*",
    ),
    *honoured("algorithm", "groups without signal are sampled anew", "filter_groups.enable"),
    *only_with(
        "algorithm",
        "algorithm.filter_groups.enable",
        "it needs algorithm.filter_groups.enable=true",
        "filter_groups._target_",
        "filter_groups.metric",
        "filter_groups.max_num_gen_batches",
        "filter_groups.max_inflight_gen_batches",
    ),
    *unread(
        "algorithm",
        "an outcome reward is given to every turn undiscounted; use_kl_in_reward charges KL",
        "gamma",
        "lam",
    ),
    *unread(
        "algorithm",
        "set agentflow.flow_grpo.std=false",
        "norm_adv_by_std_in_grpo",
    ),
    *unread(
        "algorithm",
        "flow_grpo draws no rows again; filter_groups.enable drops groups without signal",
        "use_pf_ppo",
        "pf_ppo.*",
    ),
    Option(
        "algorithm.rollout_correction.rollout_is",
        "choose token or sequence (which agentflow.flow_grpo.sequence says more about), or null",
        (None, "token", "sequence"),
    ),
    *only_with(
        "algorithm",
        "algorithm.rollout_correction.rollout_is",
        "it needs algorithm.rollout_correction.rollout_is",
        "rollout_correction.rollout_is_threshold",
        "rollout_correction.rollout_is_batch_normalize",
    ),
    *honoured("algorithm", "rejects tokens or rows", "rollout_correction.rollout_rs"),
    *only_with(
        "algorithm",
        "algorithm.rollout_correction.rollout_rs",
        "it needs algorithm.rollout_correction.rollout_rs",
        "rollout_correction.rollout_rs_threshold",
    ),
    *unread(
        "algorithm",
        "it replaces the loss of flow_grpo; choose algorithm.rollout_correction.rollout_is",
        "rollout_correction.bypass_mode",
        "rollout_correction.loss_type",
    ),
    # ---- rollout: sampling ----
    *honoured(
        ROLLOUT,
        "how the policy samples",
        "temperature",
        "top_k",
        "top_p",
        "ignore_eos",
        "seed",
        "n",
        "prompt_length",
        "response_length",
        "val_kwargs.top_k",
        "val_kwargs.top_p",
        "val_kwargs.temperature",
        "val_kwargs.n",
        "val_kwargs._target_",
    ),
    *unread(
        ROLLOUT,
        "verl 0.9.1 does not read it; temperature=0 samples greedily",
        "do_sample",
        everywhere=True,
    ),
    *only_with(
        ROLLOUT,
        f"{ROLLOUT}.val_kwargs.temperature",
        "verl 0.9.1 does not read it; set val_kwargs.temperature above 0 to sample",
        "val_kwargs.do_sample",
    ),
    *unread(ROLLOUT, "verl 0.9.1 does not read it", "over_sample_rate", everywhere=True),
    *honoured(ROLLOUT, "needed by rollout_correction", "calculate_log_probs"),
    *honoured(
        ROLLOUT,
        OF_SERVER,
        "_target_",
        "name",
        "nnodes",
        "n_gpus_per_node",
        "full_determinism",
        "dtype",
        "gpu_memory_utilization",
        "enforce_eager",
        "cudagraph_capture_sizes",
        "free_cache_engine",
        "tensor_model_parallel_size",
        "data_parallel_size",
        "expert_parallel_size",
        "pipeline_model_parallel_size",
        "max_num_batched_tokens",
        "max_model_len",
        "max_num_seqs",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "logprobs_mode",
        "scheduling_policy",
        "load_format",
        "layered_summon",
        "disable_log_stats",
        "multi_stage_wake_up",
        "engine_kwargs.*",
        "router_config_path",
        "checkpoint_engine.*",
        "skip_tokenizer_init",
        "profiler.*",
        "prometheus.*",
        "quantization",
        "quantization_config_file",
        "mtp.*",
        "qat.*",
        "disaggregation.*",
    ),
    Option(f"{ROLLOUT}.mode", "the agent loop needs async", ("async",), any_estimator=True),
    *honoured(
        ROLLOUT,
        OF_ENGINE,
        "log_prob_micro_batch_size_per_gpu",
        "log_prob_use_dynamic_bsz",
        "log_prob_max_token_len_per_gpu",
    ),
    *unread(
        ROLLOUT,
        "it is deprecated; set log_prob_micro_batch_size_per_gpu",
        "log_prob_micro_batch_size",
    ),
    *unread(
        ROLLOUT,
        "rows carry no routed experts, so there is nothing to replay or count; leave it as it is",
        "enable_rollout_routing_replay",
        "moe_load_balance_metrics_interval",
        everywhere=True,
    ),
    # ---- rollout: the agent ----
    *honoured(ROLLOUT, "processes that run trajectories", "agent.num_workers", "agent._target_"),
    Option(
        f"{ROLLOUT}.agent.default_agent_loop",
        "the agent is agentflow's loop",
        ("agentflow",),
        any_estimator=True,
    ),
    *unread(
        ROLLOUT,
        "the agent is agentflow's loop, whose engines agentflow.engines names",
        "agent.agent_loop_config_path",
        "agent.custom_async_server.*",
        everywhere=True,
    ),
    *unread(
        ROLLOUT,
        "it belongs to verl's own tool loop; agentflow.tools, agentflow.max_turns and the other"
        " limits under agentflow describe the agent",
        "multi_turn.*",
        everywhere=True,
    ),
    *unread(
        ROLLOUT,
        "verl 0.9.1 does not trace in its V1 trainer; agentflow.trajectory_dir keeps every"
        " trajectory, and `agentflow view` shows them",
        "trace.backend",
        "trace.token2text",
        "trace.max_samples_per_step_per_worker",
        everywhere=True,
    ),
    *honoured(
        ROLLOUT,
        "copies of trainer's names",
        "trace._target_",
        "trace.project_name",
        "trace.experiment_name",
    ),
    # ---- reward ----
    *honoured("reward", "processes that score, and the user's scorer", "num_workers", "_target_"),
    *honoured("reward", "the user's own scorer", "custom_reward_function.*"),
    Option(
        "reward.reward_manager.source",
        "trajectories are scored by agentflow's manager; write a reward.custom_reward_function",
        ("importlib",),
        any_estimator=True,
    ),
    Option(
        "reward.reward_manager.name",
        "trajectories are scored by agentflow's manager; write a reward.custom_reward_function",
        ("FlowRewardManager",),
        any_estimator=True,
    ),
    Option(
        "reward.reward_manager.module.path",
        "trajectories are scored by agentflow's manager; write a reward.custom_reward_function",
        (MANAGER,),
        any_estimator=True,
    ),
    *honoured(
        "reward", "of the manager", "reward_manager._target_", "reward_manager.module._target_"
    ),
    *unread(
        "reward",
        "the manager's class is named by reward.reward_manager.name",
        "reward_manager.module.name",
        everywhere=True,
    ),
    *unread(
        "reward",
        "verl would score each turn by itself, and a trajectory has one outcome; agentflow.judge"
        " asks a model, reward.custom_reward_function anything else",
        "reward_model.*",
        everywhere=True,
    ),
    *unread(
        "reward",
        "agentflow's scorers run no code; reward.custom_reward_function may",
        "sandbox_fusion.*",
        everywhere=True,
    ),
    # ---- the names of older verls ----
    *unread("reward_model", "its options are under reward", "*", everywhere=True),
    *unread("custom_reward_function", "set reward.custom_reward_function", "*", everywhere=True),
    *unread("sandbox_fusion", "agentflow's scorers run no code", "*", everywhere=True),
)
