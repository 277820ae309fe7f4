#!/usr/bin/env bash
# A reward of your own, two steps on a CPU: bash recipes/own_reward/run.sh [HYDRA OVERRIDES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/recipes/own_data/train.parquet ] || bash recipes/own_data/data.sh
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name own_reward/own_reward "$@"
