"""vLLM's CPU engine with a LoRA adapter, in a process of its own: ``python -m
tests.trainer.adapter_serving MODEL OUT``.

Weights and adapters are sent to it as verl's update does, through the methods of verl's worker
extension; what it answers is written beside what transformers and peft compute from the same
weights.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {
    "VERL_PLATFORM": "cpu",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}

import torch
import verl  # noqa: F401 - the plugin lets vLLM's CPU build answer to the name vllm
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from verl.utils.fsdp_utils import collect_lora_params, replace_lora_wrapper

PROMPT = [
    40 + number % 80 for number in range(160)
]  # longer than a block of the CPU engine's prefix cache, 128 tokens
TOKENS = 6


def main(model: Path, out: Path) -> None:
    from verl.workers.rollout.vllm_rollout.utils import (
        VLLM_LORA_INT_ID,
        VLLM_LORA_NAME,
        VLLM_LORA_PATH,
    )
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    actor = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules="all-linear"),
    )
    engine = LLM(
        model=str(model),
        load_format="dummy",  # as verl: the weights come from the actor
        dtype="float32",
        enforce_eager=True,
        enable_lora=True,
        max_loras=1,
        max_lora_rank=8,
        max_model_len=256,
        max_num_seqs=4,
        kv_cache_memory_bytes=1 << 26,
        worker_extension_cls="agentflow_verl.trainer.cpu.weights.PlainWeights",
    )
    worker = engine.llm_engine.model_executor.driver_worker.worker
    adapter = LoRARequest(
        lora_name=VLLM_LORA_NAME, lora_int_id=VLLM_LORA_INT_ID, lora_path=VLLM_LORA_PATH
    )
    settings = actor.peft_config["default"]

    def ask(*with_adapter: bool) -> list[dict[str, Any]]:
        """The same prompt in one batch, with the adapter on or off for each request."""
        sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS, logprobs=0, ignore_eos=True)
        requests = engine.generate(
            [{"prompt_token_ids": PROMPT}] * len(with_adapter),
            sampling,
            lora_request=[adapter if on else None for on in with_adapter],
            use_tqdm=False,
        )
        answers = []
        for request, on in zip(requests, with_adapter, strict=True):
            ids = list(request.outputs[0].token_ids)
            pairs = zip(ids, request.outputs[0].logprobs, strict=True)
            answers.append(
                {
                    "served": [logprobs[token].logprob for token, logprobs in pairs],
                    "computed": computed(actor, ids, on),
                    "cached": request.num_cached_tokens,
                }
            )
        return answers

    def answer(with_adapter: bool) -> dict[str, Any]:
        (found,) = ask(with_adapter)
        return found

    base = {
        replace_lora_wrapper(name, settings): value
        for name, value in collect_lora_params(actor, False, False).items()
    }
    worker._update_weights(list(base.items()), peft_config=settings.to_dict(), base_sync_done=False)
    rounds = [{"base": answer(False)}]
    for seed in range(2):
        torch.manual_seed(seed)
        for name, parameter in actor.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        worker.remove_lora(VLLM_LORA_INT_ID)
        worker._update_weights(
            list(collect_lora_params(actor, False, True).items()),
            peft_config=settings.to_dict(),
            base_sync_done=True,
        )
        engine.reset_prefix_cache()
        rounds.append({"policy": answer(True), "base": answer(False), "policy again": answer(True)})
        engine.reset_prefix_cache()
        names = ("base beside policy", "policy beside base", "a second base")
        rounds[-1] |= zip(names, ask(False, True, False), strict=True)
    out.write_text(json.dumps(rounds))


@torch.no_grad()
def computed(actor: Any, ids: list[int], with_adapter: bool) -> list[float]:
    """Log-probabilities of ``ids`` after the prompt."""
    whole = torch.tensor([[*PROMPT, *ids]])
    if with_adapter:
        logits = actor(whole).logits
    else:
        with actor.disable_adapter():
            logits = actor(whole).logits
    logprobs = logits[0, len(PROMPT) - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(ids).unsqueeze(1)).squeeze(1).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
