"""What is installed, by its distribution's name."""

from __future__ import annotations

import importlib.metadata


def has_flash_attn() -> bool:
    """Whether flash-attn 2 is installed. The module ``flash_attn`` proves nothing: flash-attn-4,
    which SGLang brings, is a part of it.
    """
    try:
        importlib.metadata.distribution("flash-attn")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
