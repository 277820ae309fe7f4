"""verl and vLLM without an accelerator. Active only where VERL_PLATFORM=cpu (the config
``platform=cpu`` sets it).

platform.py   verl's device interface over torch's CPU, and what must be registered for it
engine.py     FSDP2 over gloo
rollout.py    vLLM's CPU backend as a rollout replica whose weights can be updated
weights.py    in vLLM's worker process: weights that can be updated
lora.py       in vLLM's worker process: adapters that can be off for some requests
checkpoint.py weights to rollout replicas on other devices, for agentflow_separate_async
"""
