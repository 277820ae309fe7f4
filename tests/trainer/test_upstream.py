"""verl methods whose bodies this plugin repeats or leans on are those that it was written against.

A failure here means: read verl's new body, carry over what changed to the named method, then update
the digest.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable

import pytest
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

REPEATED = {  # verl's method: the first 16 digits of its source's sha256 in verl 0.9.1
    "_compute_advantage": "2a4a2aa4a475b228",
    "_update_actor": "d7009bd8a69d40b9",
    "_balance_batch": "f9b6e887d7504a65",
    "_build_replay_buffer": "c6c5bd0783311ea3",
    "_init_resource_pool_mgr": "9eaa3bab711e4deb",
}


def digest(method: Callable) -> str:
    return hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", REPEATED)
def test_the_method_that_modes_repeats_is_unchanged(name):
    assert digest(getattr(PPOTrainer, name)) == REPEATED[name], (
        f"verl changed PPOTrainer.{name}: compare trainer/trainers.py"
    )


def test_the_method_that_filtering_stands_in_for_is_unchanged():
    changed = "verl changed ReplayBuffer._dapo_filtered_keys: compare trainer/batching/filtering.py"
    assert digest(ReplayBuffer._dapo_filtered_keys) == "790dfb4e7ffb4d1b", changed
