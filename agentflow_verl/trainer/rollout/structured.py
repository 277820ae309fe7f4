"""Sampling parameters with which a rollout server holds a frozen module's reply to a JSON schema.

vLLM takes a ``StructuredOutputsParams`` in ``SamplingParams``, to which verl passes its sampling
parameters by name; SGLang takes ``ebnf`` in its dictionary. Neither server can follow a
grammar without its tokenizer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agentflow_verl.engines.token_engine import SchemaSampling

logger = logging.getLogger(__name__)


def schema_sampling(rollout_config: Any) -> SchemaSampling | None:
    """How the run's rollout server is told a schema; None, with a warning, where it cannot be."""
    if rollout_config.name == "vllm":
        return _for_vllm()
    if rollout_config.name == "sglang" and not rollout_config.skip_tokenizer_init:
        return _for_sglang
    if rollout_config.name == "sglang":
        reason = "it runs without a tokenizer: actor_rollout_ref.rollout.skip_tokenizer_init=False"
    else:
        reason = f"the rollout {rollout_config.name} takes no schema"
    logger.warning("frozen modules are not held to a JSON schema: %s", reason)
    return None


def _for_vllm() -> SchemaSampling:
    # Here and not at the first reply: the import takes seconds, and that is on the event loop.
    from vllm.sampling_params import StructuredOutputsParams

    def sampling(schema: Mapping[str, Any]) -> dict[str, Any]:
        grammar = _grammar(json.dumps(schema))
        if grammar is None:
            return {}
        return {"structured_outputs": StructuredOutputsParams(grammar=grammar)}

    return sampling


def _for_sglang(schema: Mapping[str, Any]) -> dict[str, Any]:
    grammar = _grammar(json.dumps(schema))
    return {} if grammar is None else {"ebnf": grammar}


@lru_cache(maxsize=256)
def _grammar(schema: str) -> str | None:
    """``schema`` as a grammar without blanks between its tokens; None, with one warning, where
    xgrammar cannot read it: a server refuses the whole request with such a schema.

    Sent as a schema, both allow any blanks unless the engine was started otherwise, and a small
    model fills its reply with them (seen with SGLang 0.5.12, and with vLLM 0.28, whose
    ``disable_any_whitespace`` of a request has no effect).
    """
    try:
        import xgrammar

        return str(xgrammar.Grammar.from_json_schema(schema, any_whitespace=False))
    except (ImportError, RuntimeError, ValueError) as reason:
        logger.warning("a module's replies are not held to %.200s: %s", schema, reason)
        return None
