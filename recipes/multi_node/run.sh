#!/usr/bin/env bash
# On the head of a running Ray cluster: BENCHMARKS=FOLDER bash recipes/multi_node/run.sh [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash recipes/paper_data/run.sh
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name multi_node/multi_node "$@"
