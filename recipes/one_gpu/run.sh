#!/usr/bin/env bash
# One 80 GB GPU: BENCHMARKS=FOLDER bash recipes/one_gpu/run.sh qwen2.5-1.5b|qwen2.5-3b|qwen2.5-7b-lora [HYDRA OVERRIDES]
# MODEL names the checkpoint of the frozen server where it is not the config's; ENGINE=sglang lets SGLang serve it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/paper_data/train.parquet ] || python recipes/paper_data/prepare.py --benchmarks "${BENCHMARKS:?the folder of the benchmark files}" --out outputs/paper_data
config=${1:?qwen2.5-1.5b, qwen2.5-3b or qwen2.5-7b-lora}
run=(python -m verl.trainer.main_ppo --config-dir recipes --config-name "one_gpu/$config" "${@:2}")
[ "$config" != qwen2.5-7b-lora ] || exec "${run[@]}"  # there the policy's server is the frozen one too
model=${MODEL:-Qwen/Qwen2.5-${config#qwen2.5-}-Instruct}
if [ "${ENGINE:-vllm}" = sglang ]; then
  python -m sglang.launch_server --model-path "$model" --served-model-name "$model" --port 8100 --mem-fraction-static 0.2 &
else
  vllm serve "$model" --port 8100 --gpu-memory-utilization 0.2 --max-model-len 9216 &
fi
server=$!
trap 'kill "$server"' EXIT
until curl --silent --fail http://127.0.0.1:8100/health > /dev/null; do kill -0 "$server" && sleep 2; done
"${run[@]}"
