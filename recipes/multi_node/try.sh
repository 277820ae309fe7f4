#!/usr/bin/env bash
# Two Ray nodes and two tool servers on this machine, one step without a GPU: bash recipes/multi_node/try.sh [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/own/train.parquet ] ||
  python recipes/paper_data/prepare.py --sources '' --user recipes/own/questions.jsonl --held-out recipes/own/held_out.jsonl --out outputs/own
export VERL_PLATFORM=cpu VLLM_TARGET_DEVICE=cpu RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')  # a head with ~/.ray/auth_token wants one, which no other node finds by itself
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
RAY_TMPDIR=$(mktemp -d /tmp/ray-XXXX)  # apart from other runs here, which would take this cluster for theirs
export RAY_TMPDIR
export TOOLS_1=http://127.0.0.1:8111/mcp TOOLS_2=http://127.0.0.1:8112/mcp
started=()
trap 'kill "${started[@]}" 2> /dev/null || true; wait; rm -rf "$RAY_TMPDIR"' EXIT
for port in 8111 8112; do python -m tool_servers.python_coder --port "$port" & started+=($!); done
until curl --silent --fail --output /dev/null "${TOOLS_1%/mcp}/healthz" "${TOOLS_2%/mcp}/healthz"; do sleep 1; done
node() { ray start --block --num-cpus 16 --disable-usage-stats "$@" & started+=($!); }
node --head --port 6399 --num-gpus 2 --include-dashboard false
until (: < /dev/tcp/127.0.0.1/6399) 2> /dev/null; do sleep 1; done
node --address 127.0.0.1:6399 --num-gpus 1
export RAY_ADDRESS=127.0.0.1:6399
until [ "$(ray status 2> /dev/null | grep -c ' node_')" = 2 ]; do sleep 5; done
python -m verl.trainer.main_ppo --config-dir recipes --config-name multi_node/tiny "$@"
