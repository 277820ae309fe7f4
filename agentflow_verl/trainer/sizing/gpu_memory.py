"""GPU memory of a run in bytes, part by part, for the three phases that share a training GPU.

What is certain is counted: weights, gradients, optimizer, the server's share, keys and values. What
depends on kernels is an estimate that a test compares with torch's own count
(tests/trainer/sizing): activations and logits. ``RUNTIME`` is a rule of thumb.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentflow_verl.trainer.sizing.model import ModelSize

GIB = 2**30
RUNTIME = 2 * GIB
"""CUDA contexts of the trainer and its server, NCCL's buffers, what the allocator cannot use."""
SERVER_WORKSPACE = 2 * GIB
"""Within the server's share: a forward pass of ``max_num_batched_tokens``, and CUDA graphs."""
HEAD_ROWS = 1024  # shared_prefix/engine.py


@dataclass(frozen=True)
class Training:
    """How verl's FSDP engine holds and runs the actor."""

    ranks: int
    """GPUs that a weight is sharded over."""
    weight_bytes: int = 4
    """Of ``fsdp_config.model_dtype``: the weights that the optimizer steps."""
    compute_bytes: int = 2
    """Of ``mixed_precision.param_dtype``."""
    trained: int | None = None
    """Parameters with a gradient; None is all."""
    guessed: bool = False
    """``trained`` or its two moments: regular expressions for LoRA, or an optimizer that is not
    torch's Adam.
    """
    params_offloaded: bool = False
    """To the host between phases."""
    optimizer_offloaded: bool = False
    stays_on_host: bool = False
    """FSDP2's ``offload_policy``: the optimizer steps there, too."""
    checkpointing: bool = True
    update_tokens: int = 16384
    log_prob_tokens: int = 16384
    shares_prefixes: bool = True
    flash_cross_entropy: bool = False
    entropy_in_update: bool = False
    compiles_entropy: bool = True


@dataclass(frozen=True)
class Serving:
    """A rollout server."""

    share: float
    """``gpu_memory_utilization``."""
    gpus: int = 1
    """That one copy of the weights is spread over."""
    value_bytes: int = 2
    longest: int = 4096
    """Tokens of a sequence."""
    sleeps: bool = True
    on_training_gpus: bool = True
    certain: bool = True
    """No option changes what weights, keys and values take in a way that is not counted here."""


@dataclass(frozen=True)
class Part:
    """One line of the plan: bytes in each phase."""

    name: str
    how: str
    update: float = 0
    log_probs: float = 0
    sampling: float = 0


def parts(model: ModelSize, training: Training, serving: Serving, total: int) -> list[Part]:
    """What a training GPU of ``total`` bytes holds while the actor is updated, while
    log-probabilities are computed, and while its server samples.
    """
    state = state_bytes(model, training)
    served = serving.share * total * serving.on_training_gpus
    kept = 0 if serving.sleeps else served
    on_gpu = {True: 0.0, False: state["weights"]}[training.params_offloaded]
    steps = {True: 0.0, False: state["optimizer"]}[training.optimizer_offloaded]
    layer, outside = model.per_layer, model.outside_layers
    gathered = training.compute_bytes * (outside + 2 * layer)
    update = training.update_tokens
    moments = "AdamW's two moments" + (", a guess" if training.guessed else "")
    server = Part("server", f"{serving.share:g} of the GPU", kept, kept, served)
    return [
        Part(
            "weights",
            f"{training.weight_bytes} bytes, / {training.ranks} GPUs",
            state["weights"],
            state["weights"],
            on_gpu,
        ),
        Part("gradients", "as the weights that are trained", state["gradients"]),
        Part("optimizer", moments, state["optimizer"], steps, steps),
        Part(
            "gathered layers",
            "embedding, head and two layers whole; a gradient in fp32",
            gathered + 4 * max(layer, outside) * (training.trained is None),
            gathered,
        ),
        Part(
            "layers' inputs",
            f"of {update:,} tokens, checkpointed"
            if training.checkpointing
            else f"of {update:,} tokens, and all between",
            update * kept_bytes(model, training),
        ),
        _at_work(model, training),
        *([server] if serving.on_training_gpus else []),
        Part("CUDA, NCCL", "a rule of thumb", RUNTIME, RUNTIME, RUNTIME),
    ]


def state_bytes(model: ModelSize, training: Training) -> dict[str, float]:
    """Of one GPU: FSDP shards weights, gradients and moments alike (Zhao et al. 2023, arXiv
    2304.11277). Gradients and AdamW's two moments have the type of the weights that are stepped:
    with fp32, 16 bytes for a parameter in all (ZeRO, Rajbhandari et al. 2020, arXiv 1910.02054,
    section 3.1, counts 2 more each for copies in half precision, which FSDP makes for the layers at
    work alone).
    """
    if training.stays_on_host:
        return {"weights": 0.0, "gradients": 0.0, "optimizer": 0.0}
    adapter = training.trained or 0
    trained = model.parameters if training.trained is None else adapter
    each = training.weight_bytes / training.ranks
    return {
        "weights": each * (model.parameters + adapter),
        "gradients": each * trained,
        "optimizer": each * 2 * trained,
    }


def at_least(training: Training) -> Training:
    """The part of it that is no guess."""
    return replace(training, trained=0) if training.guessed else training


def _at_work(model: ModelSize, training: Training) -> Part:
    """The larger of one layer and the logits: the one is freed before the other is made."""
    update, log_probs = training.update_tokens, training.log_prob_tokens
    one_layer = update * layer_bytes(model, training) if training.checkpointing else 0
    logits = logit_bytes(model, training, update, backward=True)
    name, how = "logits", f"{update:,} and {log_probs:,} tokens x {model.vocabulary:,} words"
    if one_layer > logits:
        name, how = "one layer at work", f"{update:,} tokens"
    forward = log_probs * training.compute_bytes * 3 * model.intermediate
    return Part(
        name,
        f"at most, {how}",
        max(one_layer, logits),
        max(forward, logit_bytes(model, training, log_probs, backward=False)),
    )


def kept_bytes(model: ModelSize, training: Training) -> float:
    """Per token, from the forward pass of an update to its backward pass: with checkpointing the
    input of each layer (Chen et al. 2016, arXiv 1604.06174).
    """
    if not training.checkpointing:
        return layer_bytes(model, training) * model.layers
    return training.compute_bytes * model.hidden * model.layers


def layer_bytes(model: ModelSize, training: Training) -> float:
    """Per token, what the backward pass of a layer reads (counted as in Korthikanti et al. 2022,
    arXiv 2205.05198, section 4.1, for the layers of Llama): two norms in fp32, queries, keys and
    values, attention's output, four tensors of the feed-forward part; and with checkpointing the
    gradients of its two widest, since one layer at a time is at work.
    """
    size = training.compute_bytes
    norms = 2 * model.hidden * (4 + 4 + size)
    attention = size * (2 * model.hidden + 2 * model.queries + 2 * model.keys)
    forward = size * (model.hidden + 4 * model.intermediate)
    gradients = size * 2 * model.intermediate if training.checkpointing else 0
    return norms + attention + forward + gradients


def logit_bytes(model: ModelSize, training: Training, tokens: int, *, backward: bool) -> float:
    """Of one micro-batch, at most: every token may be one that is predicted.

    With shared prefixes (shared_prefix/engine.py) the logits and their gradient are kept, and
    ``HEAD_ROWS`` rows are in fp32. verl's own way (fsdp/transformer_impl.py,
    ``prepare_model_outputs``) has the logits, and divided by the temperature; without flash-attn's
    cross entropy (utils/torch_functional.py, ``logprobs_from_logits_v2``) also a copy without
    padding, and log-softmax in fp32 for the backward pass.
    """
    size = training.compute_bytes
    if training.shares_prefixes:
        each = size * (1 + backward)
        chunk = min(HEAD_ROWS, tokens) * model.vocabulary * 4 * 4
        return tokens * model.vocabulary * each + chunk
    each = 2 * size
    if not training.flash_cross_entropy:
        each += size + 4 * backward
    entropy = training.entropy_in_update or not backward
    if entropy and not training.compiles_entropy:
        each += 8  # softmax, and its product with the logits, in fp32
    return tokens * model.vocabulary * each


def server_weights(model: ModelSize, serving: Serving) -> float:
    return serving.value_bytes * model.parameters / serving.gpus


def key_value_bytes(model: ModelSize, serving: Serving) -> float:
    """Keys and values of one token, on one GPU of the server (Kwon et al. 2023, arXiv 2309.06180,
    section 3).
    """
    return 2 * model.layers * model.keys * serving.value_bytes / serving.gpus


def cached_tokens(model: ModelSize, serving: Serving, total: int, workspace: int) -> int:
    """Tokens whose keys and values a server of this share holds; below 0, its weights do not
    fit.
    """
    room = serving.share * total - server_weights(model, serving) - workspace
    return int(room / key_value_bytes(model, serving))
