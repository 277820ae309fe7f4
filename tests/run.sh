#!/usr/bin/env bash
# Sets up as a user would, and passes the tests: bash tests/run.sh [PYTEST ARGUMENTS]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"
venv=${AGENTFLOW_VENV:-$here/.venv}
bash install.sh "$venv" cpu,test
exec "$venv/bin/python" -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=10 "$@"
