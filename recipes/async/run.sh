#!/usr/bin/env bash
# The paper's run in another trainer mode: BENCHMARKS=FOLDER bash recipes/async/run.sh colocate|separate [HYDRA OVERRIDES]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/../paper/run.sh" "+async=${1:?colocate or separate}" "${@:2}"
