"""Train the planner of a tool-using agent in its own loop, with Flow-GRPO, on stock verl.

The way of one question through the folders:

    a dataset row      trainer/rollout/agent_loop.py    verl hands over a row
    the loop           flow/                            four modules answer it, turn by turn
    who answers        engines/, tools/                 a model's reply, a tool's result
    the trajectory     trajectories/                    everything that was done, and how it ended
    the reward         rewards/                         one score per trajectory
    the rows           trainer/rollout/rows.py          one training row per planner turn
    the weights        flow_grpo/, trainer/batching/    advantages and loss weights over the group
    the update         trainer/actor_loss.py            verl's actor, with those weights

ARCHITECTURE.md says what may import what.
"""

__version__ = "0.2.0"
