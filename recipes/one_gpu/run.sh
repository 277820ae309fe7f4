#!/usr/bin/env bash
# One 80 GB GPU: BENCHMARKS=FOLDER bash recipes/one_gpu/run.sh full|lora [HYDRA OVERRIDES]
# MODEL names another checkpoint. With `full` a server of it, frozen, is started on the same GPU and ended with the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
config=${1:?full or lora}
bash recipes/paper_data/run.sh
run=(python -m verl.trainer.main_ppo --config-dir recipes --config-name "one_gpu/$config" "${@:2}")
[ "$config" = full ] || exec "${run[@]}"
export MODEL=${MODEL:-Qwen/Qwen2.5-3B-Instruct}
case " $* " in
*" actor_rollout_ref.rollout.name=sglang "*) python -m sglang.launch_server --model-path "$MODEL" --port 8100 --mem-fraction-static 0.15 --context-length 9216 & ;;
*) vllm serve "$MODEL" --port 8100 --gpu-memory-utilization 0.15 --max-model-len 9216 & ;;
esac
server=$!
trap 'kill "$server"' EXIT
until curl --silent --fail http://127.0.0.1:8100/health > /dev/null; do
  kill -0 "$server" # it has ended: so does this
  sleep 2
done
"${run[@]}"
