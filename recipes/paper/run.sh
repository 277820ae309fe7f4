#!/usr/bin/env bash
# The paper's run: BENCHMARKS=FOLDER bash recipes/paper/run.sh [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash recipes/paper_data/run.sh
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name paper/paper "$@"
