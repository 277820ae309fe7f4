"""verl and vLLM without an accelerator. Active only where VERL_PLATFORM=cpu (the config
``platform=cpu`` sets it).

platform.py   verl's device interface over torch's CPU, and what must be registered for it
engine.py     FSDP2 over gloo
rollout.py    vLLM's CPU backend as a rollout replica whose weights can be updated
checkpoint.py weights to rollout replicas on other devices, for agentflow_separate_async
"""
