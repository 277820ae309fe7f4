"""Rewards: a generator's text in, a score out.

``compute.compute_score`` finds the final answer (``flow/answer.py``) and has it scored by the
scorer of its data source (``registry.py``). There is one scorer per task family: mathematics, short
answers, multiple choice, the 24-game and countdown, GAIA. An LLM judge (``judge/``) can stand
beside them.

Scorers are pure functions of their arguments; the maths scorer keeps worker processes for algebra.
"""

from agentflow_verl.flow.answer import extract_answer
from agentflow_verl.rewards.compute import compute_score, score_answer
from agentflow_verl.rewards.score import Score

__all__ = ["Score", "compute_score", "extract_answer", "score_answer"]
