#!/usr/bin/env bash
# The paper's run in another trainer mode: BENCHMARKS=FOLDER bash recipes/async/run.sh colocate|separate [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash recipes/paper_data/run.sh
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name "async/${1:?colocate or separate}" "${@:2}"
