"""Who answers a module's prompt.

interface.py        Engine and Reply: what the flow asks for and gets
token_engine.py     a token-in, token-out server behind a chat template: policy and frozen base
openai_endpoint.py  any OpenAI-compatible endpoint
refusals.py         what an endpoint has refused, and is asked without
model_folder.py     what a model folder has to hold
"""
