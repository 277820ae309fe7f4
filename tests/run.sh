#!/usr/bin/env bash
# Sets up as a user would, and passes the tests: bash tests/run.sh [PYTEST ARGUMENTS]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export AGENTFLOW_VENV=${AGENTFLOW_VENV:-$root/.venv}
bash "$root/install.sh" "$AGENTFLOW_VENV" cpu,cpu-sglang,dev
bash "$root/scripts/check"
exec bash "$root/scripts/test" "$@"
