"""How rewards are computed: ``agentflow.reward``."""

from __future__ import annotations

from typing import Literal

from agentflow_verl.config.base import ConfigModel

QaMatch = Literal["lenient", "exact", "f1"]


class RewardConfig(ConfigModel):
    """Choices between rules that a data source alone does not settle."""

    qa_match: QaMatch = "lenient"
    """The training reward of short answers. ``exact`` is SQuAD's exact match and ``f1`` its token
    F1, which reported figures use. ``lenient`` also accepts other wordings of the same number,
    date, amount or name (``rewards/qa/match.py`` lists them). It is the default because exact match
    punishes right answers for their wording, and F1 pays for wrong answers that share words.
    """
