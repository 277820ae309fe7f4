#!/usr/bin/env bash
# SGLang in the place of vLLM: bash recipes/engine/run.sh paper [OVERRIDES], or bash recipes/engine/run.sh one_gpu qwen2.5-3b [OVERRIDES]
set -euo pipefail
ENGINE=sglang exec bash "$(dirname "${BASH_SOURCE[0]}")/../${1:?paper or one_gpu}/run.sh" "${@:2}" +engine=sglang
