"""The rows of verl_api.py about verl's rollout servers, and vLLM itself. What a CPU needs of SGLang
itself stands in cpu/sglang.py.
"""

from __future__ import annotations

from agentflow_verl.trainer.verl_name import Name, Owner

VLLM_REPLICA = Owner(
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vLLMReplica",
    "verl/workers/rollout/vllm_rollout/vllm_async_server.py",
    (
        Name("__init__", "overridden", 1321, "chooses our server's class"),
        Name("server_class", "replaced", 1334, "our server switches the adapter; the CPU's too"),
    ),
)

VLLM_SERVER = Owner(
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vLLMHttpServer",
    "verl/workers/rollout/vllm_rollout/vllm_async_server.py",
    (
        Name("lora_as_adapter", "overridden", 244, "false for a request of the frozen base"),
        Name("generate", "overridden", 558, "takes `adapter`"),
        Name("_get_worker_extension_cls", "overridden", 1273, "the CPU's worker keeps weights"),
        Name("_init_config", "overridden", 1093, "full_determinism on a CPU is seeds alone"),
        Name("_validate_configs", "overridden", 1101, "prompts in one part need as large a batch"),
        Name("_preprocess_engine_kwargs", "overridden", 1134, "a sampler that asks each seed"),
    ),
)

SGLANG = "verl/workers/rollout/sglang_rollout/async_sglang_server.py"

SGLANG_LOADER = Owner(
    "verl.workers.rollout.replica",
    "",
    "verl/workers/rollout/replica.py",
    (Name("_load_sglang", "called", 337, "stands in for vLLM where that is not installed"),),
)

SGLANG_REPLICA = Owner(
    "verl.workers.rollout.sglang_rollout.async_sglang_server",
    "SGLangReplica",
    SGLANG,
    (
        Name("__init__", "overridden", 777, "chooses our server's class"),
        Name("server_class", "replaced", 790, "our server aborts what is cancelled"),
    ),
)

SGLANG_SERVER = Owner(
    "verl.workers.rollout.sglang_rollout.async_sglang_server",
    "SGLangHttpServer",
    SGLANG,
    (
        Name("__init__", "overridden", 138, "keeps what is under way"),
        Name("launch_server", "overridden", 266, "cached tokens are noted"),
        Name("generate", "overridden", 546, "a cancelled call is aborted in SGLang"),
        Name("sleep", "overridden", 504, "once SGLang is idle"),
        Name("release_kv_cache", "overridden", 531, "once SGLang is idle"),
        Name("tokenizer_manager", "read", 430, "SGLang's side of the server"),
        Name("node_rank", "read", 179, "the first node's alone has a manager that works"),
        Name("config", "read", 164, "whether the server sleeps at all"),
    ),
)

VLLM_EXTENSION = Owner(
    "verl.workers.rollout.vllm_rollout.utils",
    "vLLMColocateWorkerExtension",
    "verl/workers/rollout/vllm_rollout/utils.py",
    (Name("__new__", "overridden", 150, "runs in vLLM's worker before it loads the model"),),
)

VLLM_GEMM = Owner(
    "vllm.model_executor.layers.utils",
    "",
    "vllm/model_executor/layers/utils.py",
    (
        Name(
            "dispatch_cpu_unquantized_gemm",
            "replaced",
            0,
            "it repacks weights for the CPU and drops those that an update would write to",
        ),
    ),
)

VLLM_PLATFORM = Owner(
    "vllm.platforms.cpu",
    "CpuPlatform",
    "vllm/platforms/cpu.py",
    (Name("get_punica_wrapper", "replaced", 0, "its LoRA is on for requests without an adapter"),),
)
