#!/bin/sh
# Builds the wheel and runs it from an empty environment without torch: what git tracks of the six folders ships and
# nothing else, and the command line works.
set -eu
python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m build --wheel --outdir "$folder" . >"$folder/build.log" 2>&1 || { cat "$folder/build.log"; exit 1; }
git ls-files workloads profiler roofline simulator explorer reports | sort >"$folder/tracked"
"$python" -m zipfile --list "$folder"/*.whl | awk 'NR > 1 && $1 !~ /[.]dist-info[/]/ { print $1 }' | sort >"$folder/shipped"
diff "$folder/tracked" "$folder/shipped" || { echo "wheel: ships more (>) or less (<) than git tracks" >&2; exit 1; }
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$folder"/*.whl
cd "$folder"
venv/bin/roofscape --help >/dev/null
venv/bin/roofscape chips | grep -q h100-sxm
venv/bin/roofscape models | grep -q llada-8b
venv/bin/roofscape samplers | grep -q llada
venv/bin/python -c 'import importlib.util as u; assert u.find_spec("torch") is None, "torch must not be needed"'
echo "wheel: builds, installs and runs without torch"
