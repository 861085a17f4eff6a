#!/usr/bin/env bash
# Compiles the kernels that gpu.sh runs into an archive, so that the GPU's time is not spent on it.
#
#   bench/gpu_kernels.sh [FILE]               default: gpu-kernels.tar.xz
#   TORCH=2.11.0 TRITON=3.6.0 bench/gpu_kernels.sh
#
# Needs a C compiler and the GPU machine's version of Python ($PYTHON, default python3.12). Its versions
# of torch and triton are installed into a folder that is removed again, or into $ENVIRONMENT.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
file=$(realpath "${1:-gpu-kernels.tar.xz}")
environment=${ENVIRONMENT:-}
if [[ -z $environment ]]; then
    environment=$(mktemp -d)
    trap 'rm -rf "$environment"' EXIT
fi
if [[ ! -x $environment/bin/python ]]; then
    "${PYTHON:-python3.12}" -m venv "$environment"
    "$environment/bin/pip" install --quiet "torch==${TORCH:-2.11.0}" "triton==${TRITON:-3.6.0}" \
        numpy msgspec ml-dtypes safetensors regex
fi
cd "$root"
PYTHONPATH=$root:$root/kernels:$root/bench:$root/tests:$root/tests/kernel_ops \
    "$environment/bin/python" -m gpu_stages.compile_ahead "$file"
