#!/usr/bin/env bash
# Downloads the packages that a GPU machine without network may lack, for its Python 3.12 on Linux.
#
#   bench/gpu_wheels.sh [FOLDER]
#
# gpu.sh installs what it finds in the folder; what the machine has already may be deleted from it.
set -euo pipefail
folder=${1:-wheels}
platforms=()
for glibc in 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5; do # pip takes each of them literally
    platforms+=(--platform "manylinux_${glibc}_x86_64")
done
for name in 2014 2010 1; do
    platforms+=(--platform "manylinux${name}_x86_64")
done
"${PYTHON:-python3}" -m pip download --no-deps --only-binary :all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" --dest "$folder" \
    --requirement "$(dirname "$0")/gpu_wheels.txt"
du -sh "$folder"
