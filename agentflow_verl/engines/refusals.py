"""What an endpoint has refused so far, and is asked without from then on.

OpenAI-compatible servers and models differ in what they take: reasoning models refuse
``temperature`` and the older ``max_tokens``, others ``seed`` or a JSON schema. The answer is HTTP
400 or 422 with a body of no common form, so the parameter is looked for in all of it.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

# Never dropped: the question itself, and what a user has asked for by name.
OPTIONAL = ("seed", "temperature", "max_tokens", "max_completion_tokens", "response_format")
_NEWER_NAME = {"max_tokens": "max_completion_tokens"}
_NO_MESSAGE = ("input", "loc", "param", "ctx", "url", "type", "code")
_EXCERPT = 200

logger = logging.getLogger(__name__)


class Refusals:
    """The refused parameters of one endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._parameters: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._schemas: set[str] = set()

    def has_refused(self, parameter: str) -> bool:
        return parameter in self._parameters

    def without_refused(self, body: dict[str, Any]) -> dict[str, Any]:
        """``body`` as the endpoint takes it."""
        if not (self._parameters or self._renamed or self._schemas):
            return body
        taken: dict[str, Any] = {}
        for key, value in body.items():
            name = self._renamed.get(key, key)
            if name in self._parameters:
                continue
            if name == "response_format" and _canonical(value) in self._schemas:
                continue
            taken[name] = value
        return taken

    def learn(self, sent: dict[str, Any], status: int, answer: str) -> bool:
        """Note what ``answer`` refuses of the body that was sent. Returns whether there is anything
        to leave out next time.
        """
        refused = refused_parameter(sent, answer)
        if refused is None and "response_format" in sent:
            refused = "response_format"  # a schema is refused in words of its content
        if refused is None:
            return False
        said = f"HTTP {status}: {' '.join(answer[:_EXCERPT].split())}"
        newer = _NEWER_NAME.get(refused)
        if refused == "response_format":
            # One schema may be beyond an endpoint that takes others.
            change = "does not take a JSON schema and is asked without it"
            is_new = _add(self._schemas, _canonical(sent[refused]))
        elif newer is not None and newer in answer and newer not in sent:
            change = f"takes {refused} as {newer}"
            is_new = refused not in self._renamed
            self._renamed[refused] = newer
        else:
            change = f"refuses {refused} and is asked without it"
            is_new = _add(self._parameters, refused)
        if is_new:  # not from a request that was under way
            logger.warning("endpoint %s %s: %s", self._endpoint, change, said)
        return True


def refused_parameter(sent: dict[str, Any], answer: str) -> str | None:
    """The optional parameter of a request that an error names: in a field made for it, or where
    there is none, in its words.
    """
    fields, texts = _fields_and_texts(answer)
    words = fields or re.findall(r"\w+", " ".join(texts))
    for word in words:
        if word in OPTIONAL and word in sent:
            return word
    return None


def _fields_and_texts(answer: str) -> tuple[list[str], list[str]]:
    """Names in ``param`` (OpenAI) and ``loc`` (FastAPI), and the messages; what a server repeats of
    the request, under ``input``, is neither.
    """
    # Breadth first: the outermost names and messages come before those nested in them.
    try:
        pending: list[Any] = [json.loads(answer)]
    except (ValueError, RecursionError):
        return [], [answer]
    fields: list[str] = []
    texts: list[str] = []
    while pending:
        part = pending.pop(0)
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            fields += re.findall(r"\w+", str(part.get("param") or ""))
            for step in part.get("loc") or ():
                if step != "body":  # the whole body, no parameter
                    fields.append(str(step))
            for key, value in part.items():
                if key not in _NO_MESSAGE:
                    pending.append(value)
    return fields, texts


def _add(known: set[str], name: str) -> bool:
    """Add a name; whether it was new."""
    is_new = name not in known
    known.add(name)
    return is_new


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
