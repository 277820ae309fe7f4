#!/usr/bin/env bash
# Your JSON lines as verl's rows: bash recipes/own_data/data.sh [FILE [FOLDER]]. Held-out questions are a file of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
file=${1:-recipes/own_data/questions.jsonl} out=${2:-outputs/recipes/own_data}
python recipes/paper_data/prepare.py --sources '' --user "$file" --benchmarks "${BENCHMARKS:-recipes/own_data/benchmarks}" --out "$out"
