#!/usr/bin/env bash
# Another base model: BENCHMARKS=FOLDER bash recipes/base_models/run.sh qwen3-8b|llama3.1-8b|gemma3-1b [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash recipes/paper_data/run.sh
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name "base_models/${1:?qwen3-8b, llama3.1-8b or gemma3-1b}" "${@:2}"
