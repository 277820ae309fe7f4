"""What a run will take, beside what a machine has: ``agentflow plan``, and a check before a run.

``problems`` certainly end the run: weights and optimizer alone above the GPU's memory, CPUs that
Ray would wait for, checkpoints that the disk does not hold. ``warnings`` are estimates that come
close, and problems that an option may undo which is not counted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.trainer.sizing import gpu_memory, host
from agentflow_verl.trainer.sizing.gpu_memory import GIB, Part, Serving, Training
from agentflow_verl.trainer.sizing.machine import Machine
from agentflow_verl.trainer.sizing.model import ModelSize, names_matrices

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
PHASES = ("update", "log_probs", "sampling")
TIGHT = 0.95
"""Share of the memory above which an estimate is worth a warning."""
FEWEST_SEQUENCES = 4
BYTES = {"fp32": 4, "float32": 4, "float": 4}  # every other type that verl knows has two
OPTIMIZERS = ("torch.optim.Adam", "torch.optim.AdamW")
CHANGES_SERVER = ("cache", "offload", "quant", "dtype", "mem", "len", "parallel", "override")
"""Parts of options' names in ``engine_kwargs`` that change what a server holds."""


@dataclass
class Plan:
    """``parts`` in bytes for each phase on one training GPU; the rest in words, for people."""

    model: ModelSize
    training_gpus: int
    serving_gpus: int
    parts: list[Part] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, problem: str, certain: bool) -> None:
        (self.problems if certain else self.warnings).append(problem)

    def total(self, phase: str) -> float:
        found: float = sum(getattr(part, phase) for part in self.parts)
        return found


def make_plan(
    config: DictConfig,
    settings: AgentflowConfig,
    model: ModelSize,
    machine: Machine,
    steps: int | None = None,
) -> Plan:
    """``steps`` of the whole run, where they are known."""
    from agentflow_verl.trainer.preflight.static import gpus  # heavy: verl's rollout

    plan = Plan(model, *gpus(config, settings))
    training, serving = training_of(config, model), serving_of(config, settings)
    _count_gpus(plan, machine)
    if config.trainer.device == "cuda" or machine.gpu_bytes is not None:
        _gpu_memory(plan, config, training, serving, machine)
    _cpus(plan, config, machine)
    _host(plan, config, training)
    _disk(plan, config, training, machine, steps)
    return plan


def training_of(config: DictConfig, model: ModelSize) -> Training:
    """How the actor is trained, from verl's options."""
    from agentflow_verl.trainer.shared_prefix.support import why_no_engine

    actor, source = config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    engine = actor.fsdp_config
    rank = max(source.get("lora_rank") or 0, (source.get("lora") or {}).get("rank") or 0)
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    precision = engine.get("mixed_precision") or {}
    attention = (source.get("override_config") or {}).get("attn_implementation")
    longest = config.data.max_prompt_length + config.data.max_response_length

    def tokens(dynamic: bool, most: int | None, rows: int | None) -> int:
        return int(max(most or 0, longest) if dynamic else (rows or 1) * longest)

    rollout, optim = config.actor_rollout_ref.rollout, actor.optim
    optimizer = f"{optim.get('optimizer_impl')}.{optim.get('optimizer')}"
    targets = source.target_modules
    by_name = names_matrices(targets) and not source.get("exclude_modules")
    return Training(
        ranks=engine.fsdp_size if 0 < engine.fsdp_size < ranks else ranks,
        # fsdp/transformer_impl.py, _build_module: fp32 unless a type is named
        weight_bytes=BYTES.get(str(engine.model_dtype or "fp32"), 2),
        compute_bytes=BYTES.get(str(precision.get("param_dtype")), 2),
        trained=model.adapter(rank, targets) if rank else None,
        guessed=optimizer not in OPTIMIZERS or bool(rank and not by_name),
        params_offloaded=engine.param_offload,
        optimizer_offloaded=engine.optimizer_offload,
        stays_on_host=engine.offload_policy and actor.strategy == "fsdp2",
        checkpointing=source.enable_gradient_checkpointing,
        update_tokens=tokens(
            actor.use_dynamic_bsz,
            actor.ppo_max_token_len_per_gpu,
            actor.ppo_micro_batch_size_per_gpu,
        ),
        log_prob_tokens=tokens(
            rollout.log_prob_use_dynamic_bsz,
            rollout.log_prob_max_token_len_per_gpu,
            rollout.log_prob_micro_batch_size_per_gpu,
        ),
        shares_prefixes=config.agentflow.shared_prefix is not False
        and why_no_engine(config) is None,
        flash_cross_entropy=attention in (None, "flash_attention_2"),
        entropy_in_update=bool(actor.entropy_coeff) or bool(actor.get("calculate_entropy")),
        compiles_entropy=bool(engine.use_torch_compile)
        or bool(engine.entropy_from_logits_with_chunking),
    )


def serving_of(config: DictConfig, settings: AgentflowConfig) -> Serving:
    from agentflow_verl.trainer.rollout.frozen_base import context_length

    rollout = config.actor_rollout_ref.rollout
    extra = (rollout.get("engine_kwargs") or {}).get(rollout.name) or {}
    changed = any(part in name for name in extra for part in CHANGES_SERVER)
    spread = (rollout.get("expert_parallel_size") or 1) > 1
    return Serving(
        share=rollout.gpu_memory_utilization,
        gpus=rollout.tensor_model_parallel_size * rollout.pipeline_model_parallel_size,
        value_bytes=BYTES.get(str(rollout.dtype), 2),
        longest=context_length(rollout, settings.base.max_tokens if settings.needs_base else 0),
        sleeps=rollout.free_cache_engine,
        on_training_gpus=not _is_apart(config) or config.actor_rollout_ref.hybrid_engine,
        certain=not (rollout.get("quantization") or changed or spread),
    )


def _is_apart(config: DictConfig) -> bool:
    """Whether rollout servers have GPUs of their own. Those on the training GPUs then sleep after
    the first weights, but for a validation (trainer_separate_async.py, ``on_validate_begin``).
    """
    return bool(config.trainer.v1.trainer_mode == "agentflow_separate_async")


def _count_gpus(plan: Plan, machine: Machine) -> None:
    needed = plan.training_gpus + plan.serving_gpus
    plan.facts.append(
        ("GPUs", f"{plan.training_gpus} train and sample, {plan.serving_gpus} serve beside them")
    )
    if machine.gpus is not None and needed > machine.gpus * machine.nodes:
        plan.problems.append(
            f"GPUs: {needed} are asked for, {machine.gpus * machine.nodes} are there: lower"
            " trainer.n_gpus_per_node, or answer the frozen modules at an endpoint"
            " (agentflow.engines)"
        )


def _gpu_memory(
    plan: Plan, config: DictConfig, training: Training, serving: Serving, machine: Machine
) -> None:
    model, total = plan.model, machine.gpu_bytes
    if total is None:
        return
    plan.parts = gpu_memory.parts(model, training, serving, total)
    surely = gpu_memory.at_least(training)
    whole = sum(gpu_memory.state_bytes(model, training).values())
    if whole > total:
        plan.add(
            f"GPU memory: weights, gradients and optimizer alone are {gib(whole)} of"
            f" {gib(total)}: train an adapter (actor_rollout_ref.model.lora_rank=32), on more GPUs,"
            f" or on the host ({ACTOR}.strategy=fsdp2 {ACTOR}.fsdp_config.offload_policy=true)",
            certain=sum(gpu_memory.state_bytes(model, surely).values()) > total,
        )
    served = serving.share * total * serving.on_training_gpus
    kept, kept_surely = (
        sum(part.sampling for part in parts if part.name in ("weights", "optimizer"))
        for parts in (plan.parts, gpu_memory.parts(model, surely, serving, total))
    )
    if served and whole <= total < served + kept:
        plan.add(
            f"GPU memory: the server takes {gib(served)} of {gib(total)}, and weights and optimizer"
            f" stay there with {gib(kept)}: {ACTOR}.fsdp_config.param_offload=true"
            f" {ACTOR}.fsdp_config.optimizer_offload=true, or a lower"
            f" {ROLLOUT}.gpu_memory_utilization",
            certain=served + kept_surely > total and not _is_apart(config),
        )
    _server(plan, serving, total)
    if plan.problems:
        return
    for phase, what in zip(PHASES, ("the update", "log-probabilities", "sampling")):
        if plan.total(phase) > TIGHT * total:
            plan.warnings.append(_tight(phase, what, plan.total(phase), total))


def _tight(phase: str, what: str, needed: float, total: int) -> str:
    helps = {
        "update": f"a lower {ACTOR}.ppo_max_token_len_per_gpu",
        "log_probs": f"a lower {ROLLOUT}.log_prob_max_token_len_per_gpu",
        "sampling": f"a lower {ROLLOUT}.gpu_memory_utilization, or"
        f" {ACTOR}.fsdp_config.optimizer_offload=true",
    }
    return f"GPU memory: {what} may need {gib(needed)} of {gib(total)}: {helps[phase]}"


def _server(plan: Plan, serving: Serving, total: int) -> None:
    """Its weights, and the sequences that its keys and values hold at once."""
    model, served = plan.model, serving.share * total
    weights = gpu_memory.server_weights(model, serving)
    usable = gpu_memory.cached_tokens(model, serving, total, gpu_memory.SERVER_WORKSPACE)
    utilization = f"{ROLLOUT}.gpu_memory_utilization"
    plan.facts.append(
        (
            "server",
            f"{gib(served)}: weights {gib(weights)}, keys and values of {max(0, usable):,} tokens"
            f" = {max(0, usable) / serving.longest:.1f} sequences of {serving.longest:,}",
        )
    )
    certain = serving.certain and model.plain
    if weights > served:
        plan.add(
            f"GPU memory: the server's weights are {gib(weights)}, its share {gib(served)}: raise"
            f" {utilization}, or {ROLLOUT}.tensor_model_parallel_size",
            certain,
        )
    elif gpu_memory.cached_tokens(model, serving, total, 0) < serving.longest:
        plan.add(
            f"GPU memory: beside its weights the server cannot hold one sequence of"
            f" {serving.longest:,} tokens in {gib(served)}: raise {utilization}, or lower"
            f" {ROLLOUT}.max_model_len",
            certain,
        )
    elif usable < FEWEST_SEQUENCES * serving.longest:
        plan.warnings.append(
            f"GPU memory: the server holds about {max(0, usable) / serving.longest:.1f} of the"
            f" longest sequences at once: raise {utilization}"
        )


def _cpus(plan: Plan, config: DictConfig, machine: Machine) -> None:
    name = OmegaConf.select(config, "transfer_queue.backend.storage_backend")
    units = 0  # another backend has no actors that demand CPUs
    if name == "SimpleStorage":
        units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    needed = host.cpus(plan.training_gpus, plan.serving_gpus, units)
    plan.facts.append(
        (
            "CPUs for Ray",
            f"{needed}: {host.CPUS_PER_TRAINING_GPU} per training GPU,"
            f" {host.CPUS_PER_SERVING_GPU} per serving GPU, TransferQueue {1 + units}",
        )
    )
    if machine.cpus is not None and needed > machine.cpus * machine.nodes:
        plan.problems.append(
            f"CPUs: Ray would wait for {needed}, and counts {machine.cpus * machine.nodes}:"
            " transfer_queue.backend.SimpleStorage.num_data_storage_units=1, and if that is not"
            f" enough ray_kwargs.ray_init.num_cpus={needed} (what Ray counts, not cores)"
        )


def _host(plan: Plan, config: DictConfig, training: Training) -> None:
    actor = config.actor_rollout_ref.actor
    in_reward = config.algorithm.use_kl_in_reward
    reference = training.trained is None and bool(actor.use_kl_loss or in_reward)
    found = host.host_bytes(plan.model, training, config.trainer.n_gpus_per_node, reference)
    plan.facts.append(("host memory", f"{gib(found)} per node: what is offloaded, the reference"))


def _disk(
    plan: Plan, config: DictConfig, training: Training, machine: Machine, steps: int | None
) -> None:
    trainer = config.trainer
    contents = list(OmegaConf.select(config, f"{ACTOR}.checkpoint.save_contents"))
    one = host.checkpoint_bytes(plan.model, training, contents)
    kept = host.checkpoints_kept(trainer.max_actor_ckpt_to_keep, trainer.save_freq, steps)
    said = {None: "one every trainer.save_freq steps, all kept", 0: "none is written"}.get(
        kept, f"{kept} kept: {gib(one * (kept or 0))}"
    )
    plan.facts.append(("checkpoint", f"{gib(one)}; {said}"))
    if machine.disk_bytes is None or kept == 0:
        return
    if (kept or 1) * one > machine.disk_bytes:
        least = host.checkpoint_bytes(plan.model, gpu_memory.at_least(training), contents)
        written = (kept or 1) if steps is not None else 1
        plan.add(
            f"disk: {kept or 1} checkpoints of {gib(one)} do not fit in {gib(machine.disk_bytes)}"
            f" for {trainer.default_local_dir}: trainer.max_actor_ckpt_to_keep=1, or another"
            " trainer.default_local_dir",
            certain=written * least > machine.disk_bytes,
        )
    elif kept is None:
        plan.warnings.append(
            f"disk: checkpoints of {gib(one)} are all kept, and {gib(machine.disk_bytes)} hold"
            f" {int(machine.disk_bytes // one)} of them: trainer.max_actor_ckpt_to_keep=2"
        )


def known_steps(config: DictConfig) -> int | None:
    """Steps of the run: as configured, or as many as the questions of parquet files make, unless
    verl leaves out those that are too long.
    """
    if config.trainer.total_training_steps:
        return int(config.trainer.total_training_steps)
    data = config.data
    if data.get("filter_overlong_prompts", True):  # verl's default where it is not set
        return None
    files = data.train_files
    names = [files] if isinstance(files, str) else list(files or ())
    if not names or not all(Path(name).is_file() and name.endswith(".parquet") for name in names):
        return None
    import pyarrow.parquet

    rows = sum(pyarrow.parquet.read_metadata(name).num_rows for name in names)
    if (most := data.get("train_max_samples") or -1) > 0:
        rows = min(rows, most)
    return int(rows // data.train_batch_size * config.trainer.total_epochs)


def gib(count: float) -> str:
    return f"{count / GIB:,.1f} GiB"
