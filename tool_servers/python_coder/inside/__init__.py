"""The programs that run inside bubblewrap, as texts for ``python -c``; none of these files is imported.

    kernel.py    calls into the kernel
    watch.py     the first process of each sandbox, once isolated: looks after the job
    starter.py   first process of all: forks and isolates the first process of each sandbox
    launcher.py  the job's process, once isolated: limits, then the program
    nursery.py   imports packages once, then forks a job's process into each sandbox

The starter is kept apart from the nursery because a fork costs what it has to copy: two large ones would cost a job
more than everything else together.
"""

from dataclasses import dataclass
from importlib import resources


def _text(*names: str) -> str:
    return "\n".join(resources.files(__package__).joinpath(f"{name}.py").read_text() for name in names)


@dataclass(frozen=True)
class Texts:
    """The two programs."""

    starter: str = _text("kernel", "watch", "starter")
    nursery: str = _text("launcher", "nursery")
    """Runs in a fork of the starter, with its names."""
