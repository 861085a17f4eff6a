#!/usr/bin/env bash
# Downloads the packages that a GPU machine without network may lack, for its Python 3.12 on Linux.
#
#   bench/gpu_wheels.sh [FOLDER] [INSTALLED]
#
# gpu.sh installs what it finds in the folder. INSTALLED is a file with the names of the packages that
# the machine has, one a line, as `pip list --format=freeze` prints them; they are left out.
set -euo pipefail
folder=${1:-wheels}
wanted=$(dirname "$0")/gpu_wheels.txt
if [[ -n ${2:-} ]]; then
    have=$(sed 's/[=@ ].*//' "$2" | tr 'A-Z_' 'a-z-')
    wanted=$(mktemp)
    trap 'rm -f "$wanted"' EXIT
    while read -r line; do
        name=${line%%[=<>]*}
        grep --quiet --line-regexp --fixed-strings "$name" <<<"$have" || echo "$line"
    done <"$(dirname "$0")/gpu_wheels.txt" >"$wanted"
fi
platforms=()
for glibc in 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5; do # pip takes each of them literally
    platforms+=(--platform "manylinux_${glibc}_x86_64")
done
for name in 2014 2010 1; do
    platforms+=(--platform "manylinux${name}_x86_64")
done
"${PYTHON:-python3}" -m pip download --no-deps --only-binary :all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" --dest "$folder" --requirement "$wanted"
du -sh "$folder"
