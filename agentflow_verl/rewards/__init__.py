"""Rewards: one rule that finds the final answer, one scorer a task family, one function that verl
calls.

    extract.py     the final answer in a generator's text
    score.py       Score, and how gold answers are read
    maths.py       numbers and expressions (quantity.py: plain numbers; algebra.py, sympy_worker.py: the bounded rest)
    qa.py          short answers, exact match and F1 (wording.py: the canonical wording)
    choice.py      multiple choice (shuffle.py: its options in another order)
    gaia.py        GAIA's normalised match
    game24.py      the 24-game and countdown (arithmetic.py: the grammar)
    registry.py    data source -> scorer
    compute.py     text -> reward, in verl's shape
    judge.py       an optional LLM judge beside the rules (judge_prompt.py: what it is asked)
    agreement.py   how far judge and rules agree (rejudge.py: over a run's saved trajectories)
    manager.py     verl's reward manager

Only manager.py imports a trainer. Scorers are pure functions of their arguments; the maths scorer
keeps worker processes.
"""

from agentflow_verl.flow.answer import extract_answer
from agentflow_verl.rewards.compute import compute_score, score_answer
from agentflow_verl.rewards.score import Score

__all__ = ["Score", "compute_score", "extract_answer", "score_answer"]
