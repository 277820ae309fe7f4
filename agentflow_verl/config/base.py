"""The base of every configured concept, and validation errors as one line with the nearest valid
name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentflow_verl.core.errors import ConfigError

Url = Annotated[str, Field(pattern=r"^https?://")]
Seconds = Annotated[float, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Temperature = Annotated[float, Field(ge=0, strict=True)]
Model = TypeVar("Model", bound="ConfigModel")


class ConfigModel(BaseModel):
    """An immutable model without unknown keys. The object that is validated is the object that
    runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def validate(model: type[Model], node: Any, where: str) -> Model:
    """``node`` as a ``model``. Raises ConfigError for the first thing that is wrong, with its place
    below ``where``.
    """
    try:
        return model.model_validate(node)
    except ValidationError as wrong:
        raise ConfigError(_explain(model, wrong, where)) from None


def nearest(name: str, names: Iterable[str]) -> str:
    """Advice that ends an error message: the valid name closest to ``name``, or all of them."""
    known = tuple(names)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; the names are {', '.join(known)}"


def _explain(model: type[ConfigModel], wrong: ValidationError, where: str) -> str:
    error = wrong.errors()[0]
    path = tuple(error["loc"])
    place = ".".join((where, *map(str, path)))
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key{nearest(str(path[-1]), fields_at(model, path[:-1]))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "tuple_type":  # YAML and Hydra have lists
        message = "Input should be a list, as in [a,b]"
    if error["type"] == "value_error":  # one of our validators: its message shows the value
        return f"{place}: {message}"
    return f"{place}: {message}, got {error['input']!r}"


def fields_at(model: Any, path: tuple[int | str, ...]) -> tuple[str, ...]:
    """The field names of the model at ``path``; a dictionary of models is entered by any key."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:
            # The value's type of dict[str, Model]; anything else has no fields below it.
            arguments: tuple[Any, ...] = getattr(model, "__args__", ())
            model = None
            if len(arguments) == 2:
                model = arguments[1]
    if isinstance(model, type) and issubclass(model, BaseModel):
        return tuple(model.model_fields)
    return ()
