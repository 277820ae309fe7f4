#!/usr/bin/env bash
# The paper's run: BENCHMARKS=FOLDER bash recipes/paper/run.sh [HYDRA OVERRIDES]; +engine=sglang and +async=colocate are overrides too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/paper_data/train.parquet ] || python recipes/paper_data/prepare.py --benchmarks "${BENCHMARKS:?the folder of the benchmark files}" --out outputs/paper_data
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name paper/paper "$@"
