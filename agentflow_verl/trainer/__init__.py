"""What plugs into verl. The only folder that knows the trainer, with
trainer/rollout/reward_manager.py and trainer/rollout/frozen_base.py.

plugin.py      entry point ``verl.plugins``: the config path, the CPU platform, the trainer modes
launch.py      before a run: validate everything cheap. After it: leave nothing behind
manager.py     starts the frozen base and the embedded tool servers, and the workers that use them
worker.py      one process that runs many trajectories: engines, tools, trajectory log
agent_loop.py  a dataset row in, one output a planner turn out
rows.py        Trajectory to verl's rows, and rows back to trajectories and groups
modes.py       ``agentflow_sync`` and its asynchronous siblings: batches, advantages, update
recovery.py    going on from a checkpoint, with resume.py (the trajectory log) and health.py (who died)
progress.py    live progress in the terminal
actor.py       the loss that the actor optimises
metrics.py     what is logged under ``agentflow/``
cpu/           verl and vLLM without an accelerator
"""
