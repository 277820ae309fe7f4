"""Examples without a deadline: they take longer on a busy machine. What must not take long has a limit of its own in CPU seconds."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
