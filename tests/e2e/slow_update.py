"""Loaded into a run's processes (``VERL_USE_EXTERNAL_MODULES``): the first update takes as long as
that of a model a thousand times as large.
"""

from __future__ import annotations

import os
import time
from typing import Any

import wrapt

SECONDS = "E2E_UPDATE_SECONDS"


def _slow_down(trainers: Any) -> None:
    update = trainers.FlowTrainer._update_actor

    def slow_update(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        time.sleep(float(os.environ.pop(SECONDS, 0)))
        return update(self, batch, metrics)

    trainers.FlowTrainer._update_actor = slow_update


wrapt.register_post_import_hook(_slow_down, "agentflow_verl.trainer.trainers")
