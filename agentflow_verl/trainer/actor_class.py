"""The class behind one of verl's Ray actor classes."""

from __future__ import annotations

from typing import Any


def wrapped_class(actor_class: Any) -> Any:
    """The plain class that ``ray.remote`` wrapped: an actor class itself cannot be subclassed
    (ray/actor.py, ``ActorClass.__init__`` raises ActorClassInheritanceException).
    """
    return actor_class.__ray_metadata__.modified_class
