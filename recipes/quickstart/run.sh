#!/usr/bin/env bash
# From nothing to a trained planner on two cores: bash recipes/quickstart/run.sh [--fresh] [--seed N] [--name NAME] [HYDRA OVERRIDES]
# Run again, it goes on from the last checkpoint; --fresh starts training over. Installation and data are made once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
seed=0 name='' fresh=0 overrides=()
while [ $# -gt 0 ]; do
  case $1 in
    --fresh) fresh=1 ;;
    --seed) seed=$2; shift ;;
    --name) name=$2; shift ;;  # of the run's folder; the seed unless given
    trainer.total_training_steps=*) STEPS=${1#*=} ;;
    *) overrides+=("$1") ;;
  esac
  shift
done
name=${name:-$seed}
out=${OUT:-$root/outputs/quickstart}
venv=${AGENTFLOW_VENV:-$root/.venv}
started=$SECONDS
extras=cpu,dev
case " ${overrides[*]-} " in
  *" actor_rollout_ref.rollout.name=sglang "*) extras=cpu-sglang,dev ;;
esac
bash "$root/install.sh" "$venv" "$extras"
export PATH="$venv/bin:$PATH" PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# Reuse freed memory: on a virtual machine a fresh page is what small tensors cost most.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864
installed=$((SECONDS - started))

mkdir -p "$out"
[ "$fresh" = 0 ] || rm -rf "$out/run-$name"
data=$out/data-$seed run=$out/run-$name base=${BASE:-$here/base} steps=${STEPS:-24}
bash "$here/wiki.sh" "$out"
[ -f "$data/val.parquet" ] || python "$here/data.py" --wiki "$out/wiki.json" --out "$data" --seed "$seed"
# The last validation is logged with the last step: one that was ended in it goes on from the checkpoint and validates anew.
if grep -qs "\"step\": \?$steps,.*\"val-core/" "$run"/metrics-*.jsonl; then
  echo "run $name is trained: --fresh starts over"
  exec python "$here/report.py" --run "$run" --out "$out"
fi

mkdir -p "$run"
export VERL_FILE_LOGGER_PATH=$run/metrics-$(date +%s).jsonl
python "$here/watch.py" --out "$run" -- \
  python -m verl.trainer.main_ppo --config-name agentflow platform=cpu \
  actor_rollout_ref.model.path="$base" \
  data.train_files="$data/train.parquet" data.val_files="$data/val.parquet" data.seed="$seed" \
  data.train_batch_size=16 data.max_prompt_length=384 data.max_response_length=48 \
  actor_rollout_ref.actor.ppo_mini_batch_size=16 actor_rollout_ref.actor.ppo_max_token_len_per_gpu=2048 \
  actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=2048 actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=2048 \
  actor_rollout_ref.actor.optim.lr=7e-4 actor_rollout_ref.rollout.n=4 actor_rollout_ref.rollout.seed="$seed" \
  actor_rollout_ref.rollout.temperature=1.0 actor_rollout_ref.rollout.max_model_len=512 \
  actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=134217728 \
  actor_rollout_ref.rollout.val_kwargs.do_sample=true actor_rollout_ref.rollout.val_kwargs.temperature=1.0 \
  agentflow.base.max_tokens=96 agentflow.time_budget_s=300 agentflow.memory_tokens=300 \
  "+agentflow.tools.python_coder.args=[--jobs,'16']" \
  "+agentflow.tools.wikipedia_search.args=[--corpus,$data/corpus.jsonl,--k,'1',--passage-chars,'50']" \
  agentflow.trajectory_dir="$run/trajectories" \
  trainer.total_epochs=100 trainer.total_training_steps="$steps" trainer.test_freq="$steps" trainer.save_freq=10 \
  trainer.default_local_dir="$run/checkpoints" trainer.max_actor_ckpt_to_keep=1 \
  "trainer.logger=[console,file]" hydra.run.dir="$run/hydra" ${overrides[@]+"${overrides[@]}"}
python "$here/report.py" --run "$run" --out "$out" \
  --seconds-install "$installed" --seconds-total "$((SECONDS - started))"
