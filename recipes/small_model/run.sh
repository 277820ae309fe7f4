#!/usr/bin/env bash
# A small instruct model learns: bash recipes/small_model/run.sh planner|planner_executor|shuffled [HYDRA OVERRIDES]
# MODEL names another checkpoint or a folder, RUN another folder for the run. Run again, it goes on from the last checkpoint.
# Paths are relative to the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
name=${1:?planner, planner_executor or shuffled}
[ -f "recipes/small_model/$name.yaml" ] || { echo "there is no variant '$name': planner, planner_executor or shuffled" >&2; exit 2; }
out=outputs/recipes/small_model
run=${RUN:-$out/run-$name}
wiki=${WIKI:-$out/wiki.json}  # the articles, made once
model=${MODEL:-Qwen/Qwen2.5-0.5B-Instruct}
anew=''
steps=$(sed -n 's/^  total_training_steps: //p' recipes/small_model/planner.yaml)
for given in "${@:2}"; do
  case $given in
    trainer.total_training_steps=*) steps=${given#*=} ;;
    trainer.resume_mode=disable) steps=again anew=yes ;;
    trainer.val_only=* | trainer.resume_mode=*) steps=again ;;
    *actor_rollout_ref.model.path=*) model=${given#*=} ;;
  esac
done
if [ -z "$anew" ] && [ -f "$run/latest_checkpointed_iteration.txt" ] && [ -f "$run/model" ] && [ "$(cat "$run/model")" != "$model" ]; then
  echo "$run is a run of $(cat "$run/model"): RUN=FOLDER names another one for $model" >&2
  exit 2
fi
# Its last validation is logged with its last step. One that was ended in it goes on from the checkpoint and validates anew.
if grep -qs "\"step\": \?$steps,.*\"val-core/" "$run"/metrics-*.jsonl; then
  echo "$run is trained and validated: RUN=FOLDER names another, trainer.val_only=True validates it again"
  exec python recipes/quickstart/report.py --run "$run" --out "$out"
fi
[ -f "$wiki" ] || bash recipes/quickstart/wiki.sh "$out"
[ -f "$out/data/val.parquet" ] || python recipes/quickstart/data.py --wiki "$wiki" --out "$out/data" --untrained wiki/letters
# Half the bytes and up to five times the speed, where the processor multiplies bf16.
precision=()
if grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then
  precision=(actor_rollout_ref.rollout.dtype=bfloat16
    ++actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16
    ++actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=bf16)
fi
# Reuse freed memory: on a virtual machine a fresh page is what small tensors cost most. Logits go back at once, since kept
# blocks of their size fragment; whatever else is freed goes back at the end of a step (trainer/cpu/platform.py).
export MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864
mkdir -p "$run"
if [ -n "$anew" ] && ls "$run"/metrics-*.jsonl >/dev/null 2>&1; then
  # Else the metrics of the run before would say that this one is done.
  mkdir -p "$run/set_aside"
  mv "$run"/metrics-*.jsonl "$run/set_aside/"
fi
echo "$model" > "$run/model"
VERL_FILE_LOGGER_PATH=$run/metrics-$(date +%s).jsonl python recipes/quickstart/watch.py --out "$run" -- \
  python -m verl.trainer.main_ppo --config-dir recipes --config-name "small_model/$name" \
  "++ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS='$(nproc)'" \
  ${precision[@]+"${precision[@]}"} \
  actor_rollout_ref.model.path="$model" trainer.default_local_dir="$run" "${@:2}"
python recipes/quickstart/report.py --run "$run" --out "$out"
