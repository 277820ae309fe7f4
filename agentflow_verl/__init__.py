"""agentflow_verl: train the planner of a tool-using agent in its own loop, with Flow-GRPO, on stock
verl.

Read the folders in this order, which is also the path of one training row:

    trainer/rollout/agent_loop.py   a dataset row becomes a question
    flow/                   the four modules answer it, turn by turn, into a Trajectory
    engines/, tools/        who answers a module's prompt; who executes a tool call
    rewards/                the trajectory's outcome reward
    trainer/                one training row a planner turn, handed to verl
    flow_grpo/              advantages and loss weights over the group
"""

__version__ = "0.1.0"
