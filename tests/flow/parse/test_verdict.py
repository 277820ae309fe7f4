"""Verdicts as models write them: what states one, and what quotes, denies or conditions it."""

from __future__ import annotations

import pytest

from agentflow_verl.flow.parse import parse_verdict

STOPS = [
    "analysis: all there\nstop_signal: True",
    '{"analysis": "all there", "stop_signal": true}',
    '{"analysis": "all there", "stop_signal": "True"}',
    "Conclusion: STOP.",
    "Conclusion: stop",
    "CONCLUSION: STOP",
    "**Conclusion**: **STOP**",
    "Conclusion - STOP",
    "Conclusion = STOP",
    "- Conclusion: STOP",
    "2) Conclusion: STOP",
    "(2) Conclusion: STOP",
    "Conclusion: 'STOP'",
    "Conclusion: [STOP]",
    "Conclusion: (STOP)",
    "Conclusion: “STOP”",
    "Conclusion: 「STOP」",
    "Conclusion: ＳＴＯＰ",
    "Verdict: STOP",
    "Decision: STOP",
    "My conclusion: STOP",
    "Analysis: all there. Conclusion: STOP",
    "Conclusion: STOP, because the product is known.",
    "Conclusion: STOP because the answer follows from the results",
    "Conclusion: STOP - the answer is 63.",
    "Conclusion: STOP (the product is 63)",
    "Conclusion: STOP. Nothing is missing and no further step is needed.",
    "Conclusion: STOP since no more is needed",
    "Conclusion: We should STOP.",
    "Conclusion: The agent can stop here.",
    "Conclusion: The answer is known, so STOP.",
    "Conclusion: Nothing is missing, so STOP",
    "Conclusion: The result is not an error; STOP",
    "Analysis: x\nSTOP",
    "STOP",
    "**STOP**",
    "Analysis: x\n\n**Conclusion:**\n\n**STOP**",
    "## Conclusion\n**STOP**",
    "The conclusion is STOP.",
    "Therefore, the conclusion is: STOP",
    "Conclusion: STOP, not CONTINUE",
    "Conclusion: STOP; do not continue",
    '{"analysis": "x", "conclusion": "STOP"}',
    '```json\n{"analysis": "x", "conclusion": "STOP"}\n```',
    '{"analysis": "x", "conclusion": "stop"}',
    "{'analysis': 'x', 'conclusion': 'STOP',}",
    '{"analysis": "x", "stop": true}',
    "<think>Conclusion: CONTINUE</think>Conclusion: STOP",
    "hm Conclusion: CONTINUE\n</think>\nConclusion: STOP",
    "<conclusion>STOP</conclusion>",
    "| Conclusion | STOP |",
    "Conclusion → STOP",
    "Conclusion: ✅ STOP",
    'Conclusion: "STOP" – all is known.',
    "Final decision: STOP",
    "Conclusion: STOP!",
    "Conclusion:STOP",
    "Conclusion : STOP",
    "Conclusion: STOP\n\nThe final answer is 63.",
    "Conclusion: STOP\nWe continue to believe that this is right.",
    "Conclusion: It is safe to STOP.",
    "Conclusion: stop, everything is there",
    "Step 2: Conclusion: STOP",
    "Conclusion: the verdict is STOP",
    "Conclusion: I choose STOP",
    "Conclusion: To conclude, STOP",
    "Conclusion: STOP\nCONCLUSION: STOP",
    "Overall, I conclude: STOP",
]


@pytest.mark.parametrize("text", STOPS)
def test_what_states_stop_stops(text):
    verdict = parse_verdict(text)
    assert verdict.stop and verdict.parsed


CONTINUES = [
    "analysis: something is missing\nstop_signal: False",
    '{"analysis": "something is missing", "stop_signal": false}',
    "Conclusion: CONTINUE",
    "Conclusion: CONTINUE because STOP is premature",
    "Conclusion: CONTINUE, do not STOP",
    "Conclusion: The result is not enough, so CONTINUE",
    "Conclusion: STOP is not right, CONTINUE",
    "Conclusion: continue, the area is not known",
    "1. Analysis: x\n2. Conclusion: CONTINUE.",
    "Conclusion: the agent should continue",
    "Conclusion: rather than STOP, CONTINUE",
    "Conclusion: CONTINUE with another search",
    "Conclusion: CONTINUE to find the area if possible",
    "Conclusion: not enough. CONTINUE",
    "Conclusion: STOP is not possible yet; CONTINUE.",
    "Conclusion: CONTINUE (do not STOP yet)",
]


@pytest.mark.parametrize("text", CONTINUES)
def test_what_states_continue_is_a_verdict(text):
    verdict = parse_verdict(text)
    assert not verdict.stop and verdict.parsed


NO_STOPS = [
    "The stop_signal: true would be wrong",
    "stop_signal: true if all is known",
    "stop_signal != true",
    "!stop_signal: true",
    "stop_signal: true?",
    "stop_signal: true\nCONTINUE",
    "If complete:\nstop_signal: true",
    '{"result": "x", "stop": "true"} is the output.\nConclusion: CONTINUE',
    "Conclusion: STOP is not justified yet",
    "Conclusion: STOP would be premature",
    "Conclusion: do not STOP",
    "Conclusion: Don't stop",
    "Conclusion: Don’t STOP",
    "Conclusion: not STOP",
    "Conclusion: STOP if the answer follows from the results",
    "Conclusion: If the answer is known, STOP",
    "Conclusion: STOP or CONTINUE",
    "Conclusion: STOP/CONTINUE",
    "Conclusion: [STOP|CONTINUE]",
    "Conclusion: STOP?",
    "Conclusion: we cannot stop",
    "Conclusion: We should not stop yet",
    "Conclusion: STOP when the area is found",
    "Conclusion: STOP once the area is known, CONTINUE until then",
    "Conclusion: It is too early to STOP",
    "Conclusion: there is no reason to STOP",
    "Conclusion: CONTINUE, do not STOP",
    "Conclusion: CONTINUE. STOP is premature.",
    "Conclusion: CONTINUE",
    "I must decide whether to write Conclusion: STOP or Conclusion: CONTINUE.",
    "Conclusion: STOPPED",
    "Conclusion: non-STOP",
    "Conclusion: The bus makes a stop at 5",
    "Conclusion: one cannot say STOP",
    "Conclusion: STOP only after the area is known",
    "Analysis: do not stop",
    "We stop at nothing.",
    "<think>\nConclusion: STOP\n</think>\nConclusion: CONTINUE",
    "<think>\nConclusion: STOP",
    "<think>Conclusion: STOP</think>",
    '{"analysis": "x", "conclusion": "STOP or CONTINUE"}',
    '{"analysis": "STOP", "conclusion": "CONTINUE"}',
    "Conclusion: STOP if the answer follows; CONTINUE otherwise",
    "Conclusion: unless the area is found, do not STOP",
    "Conclusion: STOP, if the result is right",
    "Conclusion: STOP (if the answer follows)",
    "Conclusion: STOP unless more is needed",
    "The instruction says: Conclusion: STOP if the answer follows",
    "Conclusion: rather than STOP, CONTINUE",
    "Conclusion: I would STOP if I knew the area",
    "Conclusion: STOP isn't right",
    "Conclusion: STOP is wrong here",
    "Conclusion: STOP cannot be chosen",
    "Conclusion: STOP should not be chosen",
    "Conclusion: neither STOP nor CONTINUE",
    "Conclusion: to STOP now is premature",
    "Conclusion: STOP later, CONTINUE now",
    "Conclusion: Not yet. STOP",
    "Conclusion: STOP\nWait, the area is missing. CONTINUE",
    "",
    "Conclusion:",
    "Conclusion: The agent should not be told to STOP",
    "Conclusion: Has the agent enough to STOP? No.",
    "Conclusion: STOP? No, the area is missing",
    "Conclusion: We are far from a STOP",
    "Conclusion: instead of STOP choose CONTINUE",
    "Conclusion: STOP denied",
    "Conclusion: avoid STOP",
    "Conclusion: STOP has to wait",
    "Conclusion: STOP requires the area",
    "Conclusion: hardly STOP",
    "Conclusion: STOP is unlikely to be right",
    "Conclusion: In case the product is right STOP",
]


@pytest.mark.parametrize("text", NO_STOPS)
def test_what_quotes_denies_or_conditions_stop_does_not_stop(text):
    assert not parse_verdict(text).stop


def test_the_analysis_is_what_stands_before_the_conclusion():
    assert parse_verdict("1. Analysis: known\n2. Conclusion: STOP").analysis == "known"
    assert parse_verdict('{"analysis": "known", "conclusion": "STOP"}').analysis == "known"
    assert parse_verdict("<think>hm</think>Analysis: known\nSTOP").analysis == "known"
