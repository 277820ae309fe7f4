#!/usr/bin/env bash
# outputs/paper_data, once: BENCHMARKS=FOLDER bash recipes/paper_data/run.sh [OPTIONS OF prepare.py]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -f outputs/paper_data/train.parquet ] ||
  python recipes/paper_data/prepare.py --benchmarks "${BENCHMARKS:?the folder of the benchmark files, see docs/evaluation.md}" --out outputs/paper_data "$@"
