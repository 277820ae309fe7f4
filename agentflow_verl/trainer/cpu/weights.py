"""Loaded into vLLM's CPU worker process: keeps linear weights as they are, and chooses our LoRA
(lora.py).

vLLM repacks weights for its CPU kernels at load time and drops the originals
(model_executor/layers/utils.py, ``dispatch_cpu_unquantized_gemm``), so a later weight update has
nothing to write to. Slower kernels, right weights.
"""

from __future__ import annotations

from typing import Any

import torch
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class PlainWeights(vLLMColocateWorkerExtension):
    def __new__(cls, **kwargs: Any) -> PlainWeights:
        from vllm.model_executor.layers import utils
        from vllm.platforms import current_platform

        # Before __new__ goes on, and so before vLLM loads a layer in this process.
        utils.dispatch_cpu_unquantized_gemm = _keep_plain
        type(current_platform).get_punica_wrapper = classmethod(_our_lora)
        made: PlainWeights = super().__new__(cls, **kwargs)
        return made


def _keep_plain(layer: Any, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


def _our_lora(_: Any) -> str:
    return "agentflow_verl.trainer.cpu.lora.MatrixLora"
