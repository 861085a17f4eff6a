#!/usr/bin/env bash
# Everything that only a GPU can show, in stages, without network.
#
#   bench/gpu.sh [OUT] [STAGE ...] [--seconds N] [--practice]      see bench/gpu_run.py
#   WHEELS=FOLDER KERNELS=FILE bench/gpu.sh ...
#
# Needs torch, triton and transformers in $PYTHON (default: python3), and installs nothing there. Packages
# that are missing there come from WHEELS (default: wheels), see gpu_wheels.sh; compiled kernels from
# KERNELS (default: gpu-kernels.tar.xz), see gpu_kernels.sh. Both may be absent.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
packages=("${WHEELS:-$root/wheels}"/*.whl)
kernels=${KERNELS:-$root/gpu-kernels.tar.xz}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
path=$site/packages:$root:$root/kernels:$root/bench:$root/tests:$root/tests/kernel_ops
export PYTHONPATH=$path PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
export TRITON_INTERPRET=0 # the tests' default is 1
export TRITON_CACHE_DIR=$site/kernels

if [[ -e ${packages[0]} ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile \
        --target "$site/packages" "${packages[@]}"
fi
mkdir "$TRITON_CACHE_DIR"
if [[ -e $kernels ]]; then
    tar --extract --xz --file "$kernels" --directory "$TRITON_CACHE_DIR"
fi
if [[ $# -gt 0 && $1 != -* ]]; then
    out=$(realpath "$1")
    shift
    set -- "$out" "$@"
fi
cd "$root"
"$python" bench/gpu_run.py "$@"
