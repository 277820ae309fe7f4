"""From a module's text to what the module must return. Strict form first, one documented fallback, else MalformedOutput.

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

from agentflow_verl.errors import MalformedOutput
from agentflow_verl.flow.records import Plan, Verdict

PLAN_LABELS = ("Justification", "Context", "Sub-goal", "Tool")
_STRICT_PLAN = re.compile(
    r"\s*Justification: ?(?P<justification>.*?)\nContext: ?(?P<context>.*?)\nSub-goal: ?(?P<sub_goal>.*?)\nTool: ?(?P<tool>[^\n]*)\s*",
    re.DOTALL,
)
_LABEL = re.compile(r"^[ \t>#*_-]*(justification|context|sub[- _]?goal|tool(?:[ _]name)?)[*_ \t]*:[*_ \t]*", re.I | re.M)
_CONCLUSION = re.compile(r"^[ \t>#*_-]*conclusion[*_ \t]*:[*_ \t]*(stop|continue)\b", re.I | re.M)
_STRICT_VERDICT = re.compile(r"\s*Analysis: ?(?P<analysis>.*?)\nConclusion: (?P<word>STOP|CONTINUE)\s*", re.DOTALL)
_FENCE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)


def parse_plan(text: str) -> Plan:
    """The planner's four lines. Raises MalformedOutput naming the missing lines."""
    strict = _STRICT_PLAN.fullmatch(text)
    found = strict.groupdict() if strict and text.count("\nTool:") == 1 else _last_labels(text)
    missing = [label for label in PLAN_LABELS[2:] if not found.get(_key(label), "").strip()]
    if missing:
        raise MalformedOutput(f"the plan has no {' and no '.join(f'{label}: line' for label in missing)}")
    return Plan(**{_key(label): found.get(_key(label), "").strip() for label in PLAN_LABELS})


def _key(label: str) -> str:
    word = label.lower().replace("-", "_").replace(" ", "_")
    return {"subgoal": "sub_goal", "tool_name": "tool"}.get(word, word)


def _last_labels(text: str) -> dict[str, str]:
    matches = list(_LABEL.finditer(text))
    found = {}
    for match, following in zip(matches, [*matches[1:], None]):
        value = text[match.end() : following.start() if following else len(text)]
        key = _key(match.group(1))
        found[key] = value.strip().split("\n")[0].strip(" `*_\"'") if key == "tool" else value.strip(" *\n")
    return found


def parse_arguments(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The executor's JSON arguments, not yet checked against ``schema``. Raises MalformedOutput."""
    for candidate in (text.strip(), *reversed(_FENCE.findall(text))):
        arguments = _load_object(candidate)
        if arguments is not None:
            return arguments
    arguments = _last_object(text)
    if arguments is not None:
        return arguments
    required = schema.get("required", [])
    blocks = _FENCE.findall(text)
    if blocks and len(required) == 1 and schema.get("properties", {}).get(required[0], {}).get("type") == "string":
        return {required[0]: blocks[-1]}
    raise MalformedOutput("the tool call is not a JSON object of arguments")


def _load_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _last_object(text: str, tries: int = 32) -> dict[str, Any] | None:
    """The last JSON object that starts at one of the last ``tries`` opening braces, outermost first."""
    decoder = json.JSONDecoder()
    starts = [position for position, char in enumerate(text) if char == "{"][-tries:]
    best: tuple[int, int, dict[str, Any]] | None = None
    for start in starts:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (best is None or end > best[1]):
            best = (start, end, value)
    return best[2] if best else None


def parse_verdict(text: str) -> Verdict:
    """The verifier's decision; CONTINUE with ``parsed=False`` where there is none."""
    strict = _STRICT_VERDICT.fullmatch(text)
    if strict:
        return Verdict(stop=strict["word"] == "STOP", analysis=strict["analysis"].strip())
    matches = list(_CONCLUSION.finditer(text))
    if not matches:
        return Verdict(stop=False, analysis=text.strip(), parsed=False)
    analysis = text[: matches[-1].start()].strip()
    return Verdict(stop=matches[-1].group(1).lower() == "stop", analysis=re.sub(r"^\W*analysis\W*:\W*", "", analysis, flags=re.I))
