#!/bin/sh
# Builds the wheel and runs it from an empty environment without torch: the files of the six folders ship and nothing
# else, and the command line works.
set -eu
python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
rm -rf build/lib # where setuptools keeps modules of earlier builds, and ships them again
"$python" -m build --wheel --outdir "$folder" . >"$folder/build.log" 2>&1 || { cat "$folder/build.log"; exit 1; }
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard workloads profiler roofline simulator explorer reports |
        while read -r file; do [ ! -e "$file" ] || echo "$file"; done | sort >"$folder/here"
    "$python" -m zipfile --list "$folder"/*.whl |
        awk 'NR > 1 && $1 !~ /[.]dist-info[/]/ { print $1 }' | sort >"$folder/shipped"
    diff "$folder/here" "$folder/shipped" || { echo "wheel: ships more (>) or less (<) than is here" >&2; exit 1; }
fi
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$folder"/*.whl
cd "$folder"
venv/bin/roofscape --help >/dev/null
venv/bin/roofscape chips | grep -q h100-sxm
venv/bin/roofscape models | grep -q llada-8b
venv/bin/roofscape samplers | grep -q llada
venv/bin/python -c 'import importlib.util as u; assert u.find_spec("torch") is None, "torch must not be needed"'
echo "wheel: builds, installs and runs without torch"
