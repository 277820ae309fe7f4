"""Prompt templates: a file per module, system part and user part divided by a line of three dashes.

The system part is the same for every trajectory (for the executor: for every call of one tool) and
the user part ends with what changes from turn to turn, so that prefixes are shared. ``$name`` marks
a field and ``$$`` is a dollar sign. No template has an example with contents of its own: a model of
0.5 B parameters copied them into its plans, verdicts and answers (docs/evidence.md). The verifier
is not shown the analysis, since it took what an analyst claims for a result. The shipped templates
lie next to this file; ``agentflow.prompts`` names a folder whose files replace any of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType

from agentflow_verl.config.base import nearest
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.engines.interface import Message

DIVIDER = "\n---\n"


@dataclass(frozen=True)
class Fields:
    """The fields of a module's template: those that it must show, and further ones that it may."""

    required: frozenset[str]
    optional: frozenset[str]

    @property
    def known(self) -> frozenset[str]:
        return self.required | self.optional


def _fields(required: str, optional: str = "") -> Fields:
    return Fields(frozenset(required.split()), frozenset(optional.split()))


# Required is what the module cannot do its part without.
FIELDS: Mapping[str, Fields] = MappingProxyType(
    {
        "analyst": _fields("query", "tools"),
        "planner": _fields("query tools memory", "analysis turns_left turns_left_note tool_names"),
        "executor": _fields("sub_goal schema", "query tool description context form"),
        "verifier": _fields("query memory", "analysis"),
        "generator": _fields("query memory", "analysis"),
    }
)


@dataclass(frozen=True)
class Prompt:
    """A module's template."""

    system: Template
    user: Template

    @classmethod
    def parse(cls, text: str) -> Prompt:
        """Raises ValueError for a text that has no line of three dashes."""
        system, divider, user = text.replace("\r\n", "\n").partition(DIVIDER)
        if not divider:
            raise ValueError(
                "there is no line '---' between the system part and the user part; add one"
            )
        return cls(Template(system.strip()), Template(user.strip()))

    @cached_property
    def shows_memory(self) -> bool:
        return "memory" in _names(self.user.template)

    def render(self, **fields: str) -> list[Message]:
        """The two messages of a call. Raises KeyError for a field that is missing."""
        return [
            {"role": "system", "content": _format(self.system.template) % fields},
            {"role": "user", "content": _format(self.user.template) % fields},
        ]


@dataclass(frozen=True)
class Prompts:
    """The templates that a run uses, by module."""

    by_module: Mapping[str, Prompt]

    @classmethod
    def shipped(cls) -> Prompts:
        """The templates of the package."""
        return cls(MappingProxyType({module: load(module) for module in FIELDS}))

    @classmethod
    def from_folder(cls, folder: str | Path | None, option: str = "agentflow.prompts") -> Prompts:
        """The shipped templates, of which the files ``MODULE.md`` in ``folder`` replace their own.

        Args:
            folder: None replaces none.
            option: where the user named the folder, for messages.

        Raises ConfigError: no such folder, none of the files in it, a Markdown file that is named
        after no module, or a template with an unknown or a missing field.
        """
        shipped = cls.shipped()
        if folder is None:
            return shipped
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise ConfigError(f"{option}: there is no folder {path}")
        replaced = {}
        for file in sorted(path.glob("*.md")):
            if file.stem in FIELDS:
                replaced[file.stem] = _read(file, option)
            elif file.stem.upper() != "README":
                hint = nearest(file.stem, FIELDS)
                raise ConfigError(f"{option}: {file}: no module is called {file.stem!r}{hint}")
        if not replaced:
            names = ", ".join(f"{module}.md" for module in FIELDS)
            raise ConfigError(f"{option}: {path} has none of {names}")
        return cls(MappingProxyType({**shipped.by_module, **replaced}))

    def __getitem__(self, module: str) -> Prompt:
        return self.by_module[module]

    @property
    def digest(self) -> str:
        """SHA-256 of all templates' texts, in hexadecimal: the same for the same prompts."""
        digest = hashlib.sha256()
        for module in FIELDS:
            prompt = self[module]
            for part in (module, prompt.system.template, prompt.user.template):
                digest.update(part.encode("utf-8") + b"\0")
        return digest.hexdigest()


def digest_of(messages: Sequence[Message]) -> str:
    """What tells a call's prompt from any other: 16 hexadecimal digits of its SHA-256."""
    text = "".join([f"{message['role']}\0{message['content']}\0" for message in messages])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def load(module: str) -> Prompt:
    """The shipped template of ``module``."""
    return Prompt.parse(files(__name__).joinpath(f"{module}.md").read_text(encoding="utf-8"))


def _read(file: Path, option: str) -> Prompt:
    """A user's template, its fields checked. Raises ConfigError."""
    where = f"{option}: {file}"
    try:
        prompt = Prompt.parse(file.read_text(encoding="utf-8"))
        used = _names(prompt.system.template) | _names(prompt.user.template)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    fields = FIELDS[file.stem]
    for name in sorted(used - fields.known):
        hint = nearest(name, fields.known)
        raise ConfigError(
            f"{where}: the {file.stem} has no field ${name}{hint}; write $$ for a dollar sign"
        )
    for name in sorted(fields.required - used):
        raise ConfigError(f"{where}: the field ${name} is missing; the {file.stem} needs it")
    return prompt


@cache
def _format(template: str) -> str:
    """A template's text as a format of Python's ``%``, which is filled in at a fifth of what
    ``Template.substitute`` takes. Raises ValueError for a $ that begins no field.
    """
    _names(template)
    parts, position = [], 0
    for match in Template.pattern.finditer(template):
        name = match["named"] or match["braced"]
        parts += [
            template[position : match.start()].replace("%", "%%"),
            f"%({name})s" if name else "$",
        ]
        position = match.end()
    return "".join([*parts, template[position:].replace("%", "%%")])


@cache
def _names(template: str) -> frozenset[str]:
    """The fields that a template's text shows. Raises ValueError for a $ that begins none."""
    names = set()
    for match in Template.pattern.finditer(template):
        name = match["named"] or match["braced"]
        if name:
            names.add(name)
        elif match["invalid"] is not None:
            line = template.count("\n", 0, match.start()) + 1
            raise ValueError(f"a $ without a field's name, in line {line} of its part; write $$")
    return frozenset(names)
