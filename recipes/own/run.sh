#!/usr/bin/env bash
# A tool, questions and a reward of one's own, one step on a CPU: bash recipes/own/run.sh [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/own/train.parquet ] ||
  python recipes/paper_data/prepare.py --sources '' --user recipes/own/questions.jsonl --held-out recipes/own/held_out.jsonl --out outputs/own
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name own/own "$@"
