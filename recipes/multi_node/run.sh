#!/usr/bin/env bash
# On the head of a running Ray cluster: BENCHMARKS=FOLDER bash recipes/multi_node/run.sh [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/paper_data/train.parquet ] || python recipes/paper_data/prepare.py --benchmarks "${BENCHMARKS:?the folder of the benchmark files}" --out outputs/paper_data
export RAY_ADDRESS=${RAY_ADDRESS:-auto}
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name multi_node/multi_node "$@"
