#!/usr/bin/env bash
# On each tool host: AGENTFLOW_TOOL_TOKEN=… bash recipes/multi_node/tools.sh [python -m tool_servers.python_coder OPTIONS]
# Off loopback (--host 0.0.0.0) a server wants that token; the trainer reads it from the variable that TOOLS_TOKEN_ENV names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec python -m tool_servers.python_coder --port 8101 --workers 4 "$@"
