"""From a module's text to what the module must return. Strict form first, one documented fallback,
else MalformedOutput.

    plan        four labelled lines        fallback: the last such labels anywhere, markdown ignored
    arguments   one JSON object            fallback: the last JSON object in the text; for a tool whose only required
                                           argument is a string, the last fenced block
    verdict     two labelled lines         fallback: the last "Conclusion: STOP|CONTINUE" in the text

No rule looks for a bare word such as "stop" (the reference code does, and stops on "do not stop").
"""

from __future__ import annotations

import json
import re
from typing import Any

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.trajectories.records import Plan, Verdict

MAX_DEPTH = 64  # of a call's arguments; pydantic writes no JSON deeper than 255
MAX_READS = 100  # of a text in the search for an object, so that hostile text costs linear time
PLAN_LABELS = ("Justification", "Context", "Sub-goal", "Tool")
_LABEL = re.compile(
    r"^[ \t>#*_-]*(justification|context|sub[- _]?goal|tool(?:[ _]name)?)[*_ \t]*:[*_ \t]*",
    re.I | re.M,
)
_CONCLUSION = re.compile(r"^[ \t>#*_-]*conclusion[*_ \t]*:[*_ \t]*(stop|continue)\b", re.I | re.M)
_STRICT_VERDICT = re.compile(
    r"\s*Analysis: ?(?P<analysis>.*?)\nConclusion: (?P<word>STOP|CONTINUE)\s*", re.DOTALL
)
_OBJECT = re.compile(r'\{\s*["}]')  # how a JSON object starts, and LaTeX seldom
_FENCE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)


def parse_plan(text: str) -> Plan:
    """The planner's four lines. Raises MalformedOutput naming the missing lines."""
    found = _strict_labels(text) or _last_labels(text)
    missing = [label for label in PLAN_LABELS[2:] if not found.get(_key(label), "").strip()]
    if missing:
        raise MalformedOutput(
            f"the plan has no {' and no '.join(f'{label}: line' for label in missing)}"
        )
    return Plan(**{_key(label): found.get(_key(label), "").strip() for label in PLAN_LABELS})


def _key(label: str) -> str:
    word = label.lower().replace("-", "_").replace(" ", "_")
    return {"subgoal": "sub_goal", "tool_name": "tool"}.get(word, word)


def _strict_labels(text: str) -> dict[str, str] | None:
    """The four labels once and in order, each at the start of its line, nothing before and nothing
    after.
    """
    rest, values = "\n" + text.strip(), []
    for label in PLAN_LABELS:
        value, mark, rest = rest.partition(f"\n{label}:")
        if not mark:
            return None
        values.append(value)
    if values[0] or "\n" in rest:
        return None
    return dict(zip(map(_key, PLAN_LABELS), [*values[1:], rest]))


def _last_labels(text: str) -> dict[str, str]:
    matches = list(_LABEL.finditer(text))
    found = {}
    for match, following in zip(matches, [*matches[1:], None]):
        value = text[match.end() : following.start() if following else len(text)]
        key = _key(match.group(1))
        found[key] = (
            value.strip().split("\n")[0].strip(" `*_\"'") if key == "tool" else value.strip(" *\n")
        )
    return found


def parse_arguments(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The executor's JSON arguments, not yet checked against ``schema``. Raises MalformedOutput."""
    blocks = _FENCE.findall(text)
    for candidate in (text.strip(), *reversed(blocks)):
        found = _load_object(candidate)
        if found is not None:
            break
    else:
        found = _last_object(text)
    if found is not None:
        arguments: dict[str, Any] = _recordable(found)
        return arguments
    required = schema.get("required", [])
    if (
        blocks
        and len(required) == 1
        and schema.get("properties", {}).get(required[0], {}).get("type") == "string"
    ):
        return {required[0]: blocks[-1]}
    raise MalformedOutput("the tool call is not a JSON object of arguments")


def _load_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object that is inside no other. Gives up on text that would have to be read too
    often.
    """
    decoder, found = json.JSONDecoder(), None
    start, reread = _OBJECT.search(text), 0
    while start and reread <= MAX_READS * len(text):
        try:
            found, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError) as wrong:
            reread += getattr(wrong, "pos", len(text))  # json counts the lines up to the error
            end = start.start() + 1
        start = _OBJECT.search(text, end)
    return found


def _recordable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """``value`` as a trajectory's JSON can hold it: well-formed text, nested at most ``depth``
    deep.
    """
    if isinstance(value, str):
        return well_formed(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        raise MalformedOutput(f"the arguments are nested more than {MAX_DEPTH} deep")
    if isinstance(value, list):
        return [_recordable(item, depth - 1) for item in value]
    return {well_formed(key): _recordable(item, depth - 1) for key, item in value.items()}


def parse_verdict(text: str) -> Verdict:
    """The verifier's decision; CONTINUE with ``parsed=False`` where there is none."""
    strict = _STRICT_VERDICT.fullmatch(text)
    if strict:
        return Verdict(stop=strict["word"] == "STOP", analysis=strict["analysis"].strip())
    matches = list(_CONCLUSION.finditer(text))
    if not matches:
        return Verdict(stop=False, analysis=text.strip(), parsed=False)
    analysis = text[: matches[-1].start()].strip()
    return Verdict(
        stop=matches[-1].group(1).lower() == "stop",
        analysis=re.sub(r"^\W*analysis\W*:\W*", "", analysis, flags=re.I),
    )
