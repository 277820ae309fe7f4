"""Who answers a module's prompt.

base.py       Engine and Reply: what the flow asks for and gets
tokens.py     a token-in, token-out server behind a chat template: the policy, and the frozen base
replica.py    starts the frozen base: the same checkpoint on a rollout server of its own
endpoint.py   any OpenAI-compatible endpoint
"""
