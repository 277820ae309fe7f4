"""verl's FSDP engine over trees of rows: the same log-probabilities, entropies, loss and gradient.

Four of verl's methods (trainer/verl_api.py). A batch that carries ``SHARED_PREFIX`` is cut into
micro-batches that count distinct tokens, each becomes one packed tree, and only positions that
predict a response token reach the head. Any other batch goes verl's way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from verl.utils import tensordict_utils as tu
from verl.utils import torch_functional
from verl.utils.device import get_device_id
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import postprocess_batch_func, prepare_micro_batches
from verl.workers.utils.padding import no_padding_2_padding

from agentflow_verl.trainer.shared_prefix import attention
from agentflow_verl.trainer.shared_prefix.attention import TreeAttention
from agentflow_verl.trainer.shared_prefix.tree import (
    Predictions,
    PrefixTree,
    split_by_size,
    split_further,
)

SHARED_PREFIX = "agentflow_shared_prefix"
"""In a batch's extra information: compute it as a tree (the option's value, ``auto`` or True)."""

TOLERANCE = {torch.float32: 1e-3}
OTHER_TOLERANCE = 0.25
"""Nats by which log-probabilities may differ in the mean, by the type that is computed in; another
mask makes whole nats.
"""
HEAD_ROWS = 1024
"""Positions whose logits are in float32 at once."""

logger = logging.getLogger(__name__)
attention.register()


class SharedPrefixEngine(FSDPEngineWithLMHead):
    """See the module. Whether a run can is support.py's question."""

    _shares = False
    _agrees: bool | None = None
    """Whether the model's log-probabilities are the same either way; None until it was tried."""
    _flat_attention: str | None = None

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> Any:
        """verl's method (fsdp/transformer_impl.py:724), except for the micro-batches."""
        wanted = tu.get_non_tensor_data(data, SHARED_PREFIX, False)
        if wanted and self._agrees is None:
            self._agrees = self._try_both(data, required=wanted is True)
        self._choose(bool(wanted and self._agrees))
        if not self._shares:
            return super().forward_backward_batch(data, loss_function, forward_only)
        keep_output = tu.get_non_tensor_data(data, "return_model_output", False)
        tokens = data["loss_mask"].sum().to(get_device_id())
        dist.all_reduce(tokens, op=dist.ReduceOp.SUM, group=self.get_data_parallel_group())
        tu.assign_non_tensor(data, sp_size=1, batch_num_tokens=tokens.item())
        tu.assign_non_tensor(data, dp_size=self.get_data_parallel_size())

        micro_batches, indices = self._micro_batches(data)
        outputs = []
        gradient = torch.no_grad() if forward_only else nullcontext()
        for number, micro_batch in enumerate(micro_batches):
            sync: Any = nullcontext()
            if not forward_only:
                last = number == len(micro_batches) - 1
                sync = self._gradient_sync_context(is_last_micro_batch=last)
            with gradient, sync:
                loss, output = self.forward_step(micro_batch, loss_function, forward_only)
                if not forward_only:
                    (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                    if not keep_output:
                        # They are as long as the rows, and nobody reads them in training.
                        output.pop("model_output", None)
            outputs.append(output)
        return postprocess_batch_func(output_lst=outputs, indices=indices, data=data)

    def _choose(self, shares: bool) -> None:
        """For a whole batch: a checkpointed layer looks again in the backward pass."""
        self._shares = shares
        config = self.module.config
        if config._attn_implementation != attention.NAME:
            self._flat_attention = config._attn_implementation
        config._attn_implementation = attention.NAME if shares else self._flat_attention

    def _try_both(self, data: TensorDict, required: bool) -> bool:
        """Whether three short rows have the same log-probabilities either way: a model whose layers
        see more than support.py knows of is found here, before anything is trained on it.

        Raises:
            ValueError: they differ, and sharing is ``required``.
        """
        rows = _sample_rows(data)
        found = []
        for shares in (False, True):
            self._choose(shares)
            try:
                with torch.no_grad():
                    _, output = self.forward_step(rows, None, forward_only=True)
            except (RuntimeError, TypeError, ValueError) as error:
                if not shares:
                    raise
                logger.warning("rows with shared prefixes: %s: %s", type(error).__name__, error)
                break
            found.append(no_padding_2_padding(output["model_output"]["log_probs"], rows).float())
        difference = torch.tensor(torch.inf, device=get_device_id())
        if len(found) == 2:
            difference = (found[0] - found[1]).abs().mean()
        # One decision for all ranks, which compute together.
        dist.all_reduce(difference, op=dist.ReduceOp.MAX, group=self.get_data_parallel_group())
        if difference <= TOLERANCE.get(self._autocast_dtype, OTHER_TOLERANCE):
            return True
        complaint = (
            f"{self.module.config.model_type}: log-probabilities differ by {difference.item():.2g}"
            " in the mean between rows computed with shared prefixes and one by one"
        )
        if required:
            raise ValueError(f"{complaint}; set agentflow.shared_prefix=false")
        logger.warning("%s; prefixes are not shared", complaint)
        return False

    def _micro_batches(self, data: TensorDict) -> tuple[list[TensorDict], Any]:
        """The batch in parts that hang together, as many on every rank, and their rows."""
        group = self.get_data_parallel_group()
        if not tu.get_non_tensor_data(data, "use_dynamic_bsz", True):
            parts: tuple[list[TensorDict], Any] = prepare_micro_batches(data=data, dp_group=group)
            return parts
        rows = _rows(data)
        chosen = split_by_size(rows, data["max_token_len_per_gpu"])
        count = torch.tensor(len(chosen), device=get_device_id())
        dist.all_reduce(count, op=dist.ReduceOp.MAX, group=group)
        chosen = split_further(chosen, rows, int(count))
        return [tu.index_select_tensor_dict(data, part) for part in chosen], chosen

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], Any]:
        """Each distinct token once, and which positions' logits are wanted."""
        if not self._shares:
            inputs: tuple[dict[str, Any], Any] = super().prepare_model_inputs(micro_batch)
            return inputs
        device = micro_batch["input_ids"].device
        tree = PrefixTree.of(_rows(micro_batch))
        wanted = Predictions.of(tree, micro_batch["prompts"].offsets().diff().cpu())
        model_inputs = {
            "input_ids": tree.token_N.unsqueeze(0).to(device),
            "position_ids": tree.position_N.unsqueeze(0).to(device),
            "attention_mask": None,
            "logits_to_keep": wanted.slot_P.to(device),
            "tree": TreeAttention(tree, device),
        }
        return model_inputs, wanted.to(device)

    def prepare_model_outputs(
        self, output: Any, output_args: Any, micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        """verl's layout: a nested tensor with the lengths of ``input_ids``, each value at the
        position before the token that it is of; 0 within prompts.
        """
        if not self._shares:
            flat: dict[str, Tensor] = super().prepare_model_outputs(
                output, output_args, micro_batch, logits_processor_func
            )
            return flat
        wanted: Predictions = output_args
        logits_PV = output.logits.squeeze(0)
        if isinstance(logits_PV, DTensor):
            logits_PV = logits_PV.full_tensor()
        temperature = _temperature(micro_batch)
        wants = {
            name: bool(tu.get_non_tensor_data(micro_batch, f"calculate_{name}", False))
            for name in ("entropy", "sum_pi_squared")
        }
        values_P = self._of_positions(logits_PV, temperature, wants)
        of_label_A = logits_PV[wanted.position_A, wanted.label_A].float() / temperature
        values_A = {name: value_P[wanted.position_A] for name, value_P in values_P.items()}
        values_A["log_probs"] = of_label_A - values_A.pop("normaliser")
        input_ids = micro_batch["input_ids"]
        offsets = input_ids.offsets()
        outputs = {}
        for name, value_A in values_A.items():
            value_T = value_A.new_zeros(input_ids.values().shape[0])
            value_T = value_T.scatter(0, wanted.place_A, value_A)
            outputs[name] = torch.nested.nested_tensor_from_jagged(value_T, offsets)
        return outputs

    def _of_positions(
        self, logits_PV: Tensor, temperature: float, wants: dict[str, bool]
    ) -> dict[str, Tensor]:
        """What follows from a position's logits alone, float32 (P,): the logarithm of the softmax's
        denominator, and what else is wanted. Rows that share a position get the same value.
        """

        def of(logits: Tensor) -> tuple[Tensor, ...]:
            logits = logits.float()
            if temperature != 1.0:
                logits = logits / temperature
            values = [logits.logsumexp(-1)]
            if wants["entropy"]:
                values.append(self.compute_entropy_from_logits(logits))
            if wants["sum_pi_squared"]:
                values.append(torch_functional.calculate_sum_pi_squared_from_logits(logits))
            return tuple(values)

        # In parts that are computed again in the backward pass, so that no second copy of all
        # logits is kept, in float32 or divided by the temperature.
        again = logits_PV.requires_grad
        parts = []
        for part in logits_PV.split(HEAD_ROWS):
            parts.append(checkpoint(of, part, use_reentrant=False) if again else of(part))
        names = ["normaliser", *(name for name, wanted in wants.items() if wanted)]
        return {name: torch.cat(values) for name, values in zip(names, zip(*parts))}


def _sample_rows(data: TensorDict) -> TensorDict:
    """Three rows that branch twice, of tokens of the batch, with its other settings."""
    tokens = data["input_ids"].values()[:24].repeat(24)[:24].cpu()
    prompts = [tokens[:8], tokens[:8], tokens[:12]]
    responses = [tokens[12:16], tokens[16:24], tokens[4:8]]
    whole = [torch.cat(parts) for parts in zip(prompts, responses)]
    columns = {
        "prompts": prompts,
        "responses": responses,
        "input_ids": whole,
        "position_ids": [torch.arange(len(row)) for row in whole],
    }
    nested = {
        name: torch.nested.as_nested_tensor(column, layout=torch.jagged)
        for name, column in columns.items()
    }
    rows = TensorDict(nested, batch_size=len(whole))
    for name in ("use_remove_padding", "use_fused_kernels", "pad_token_id"):
        if name in data:
            tu.assign_non_tensor(rows, **{name: tu.get_non_tensor_data(data, name, None)})
    tu.assign_non_tensor(rows, temperature=1.0, calculate_entropy=False)
    return rows


def _rows(data: TensorDict) -> list[Tensor]:
    """Token ids of each row, on the CPU in one copy."""
    input_ids = data["input_ids"]
    lengths = input_ids.offsets().diff().tolist()
    return list(input_ids.values().cpu().split(lengths))


def _temperature(micro_batch: TensorDict) -> float:
    """The one temperature of the rows. Raises ValueError where they differ: a position that rows
    share has one distribution.
    """
    given = micro_batch["temperature"]
    values = torch.as_tensor(given, dtype=torch.float32).unique()
    if len(values) != 1:
        raise ValueError(f"rows with shared prefixes have one temperature, not {values.tolist()}")
    return max(float(values), 1e-8)


def register() -> None:
    """In the place of verl's engine. verl looks for a vendor's own first (engine/base.py), so
    nothing of verl's is replaced; trainer/cpu/engine.py registers the CPU's.
    """
    for vendor in ("nvidia", "amd"):
        EngineRegistry.register(
            model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor=vendor
        )(SharedPrefixEngine)


register()
