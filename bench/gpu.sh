#!/usr/bin/env bash
# Everything that only a GPU can show, in under ten minutes and without network.
#
#   bench/gpu.sh [OUT]              default: bench/results/gpu
#   WHEELS=FOLDER bench/gpu.sh      where bench/gpu_wheels.sh put its packages; default: wheels
#   DRY_RUN=1 bench/gpu.sh          only prints the commands
#
# Needs torch, triton and transformers in $PYTHON (default: python3), and installs nothing there.
# Every stage has a time limit of its own, and none hides what the others found. OUT gets log.txt,
# the stages' figures, and all of them together as <gpu>.json and <gpu>.md.
# Exit code 0: every stage passed.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/bench/results/gpu}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
python=${PYTHON:-python3}
wheels=${WHEELS:-$root/wheels}
deadline=570 # seconds after the start; the report comes after it
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH=$site:$root:$root/kernels PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
cd "$root" || exit 2
rm -f "$out"/{ceilings,kernels,serving}.json
: >"$out/log.txt"
: >"$out/stages.tsv"

# stage NAME SECONDS COMMAND...: runs the command and notes its exit code; 124: out of time
stage() {
    local name=$1 limit=$2 begin=$SECONDS left=$((deadline - SECONDS)) code
    shift 2
    ((limit > left)) && limit=$left
    echo "== $name, at most $limit s: $*" | tee -a "$out/log.txt"
    [[ -n ${DRY_RUN:-} ]] && return
    if ((limit > 0)); then
        timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$out/log.txt"
        code=${PIPESTATUS[0]}
    else
        code=124
    fi
    printf '%s\t%d\t%d\n' "$name" "$code" $((SECONDS - begin)) >>"$out/stages.tsv"
}

environment() {
    local tool
    for tool in nvidia-smi rocm-smi; do
        command -v "$tool" >/dev/null && "$tool"
    done
    "$python" -VV
    "$python" - <<'END'
import torch, transformers, triton
print("torch", torch.__version__, "triton", triton.__version__, "transformers", transformers.__version__)
print(torch.cuda.get_device_properties(0))
END
}
export -f environment
export python

install=("$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site")
packages=("$wheels"/*.whl)
# Which of the chips that kernels are tuned for is closest to this one.
find_chip="import sys; sys.path.insert(0, 'bench')
from gpu_ceilings import chip_name; from glmserve_kernels.tiles import closest_chip
print(closest_chip(chip_name()))"
export TRITON_INTERPRET=0 # the tests' default is 1
# Other versions may warn of things that are no errors; as some plugin may that happens to be there.
pytest=("$python" -m pytest -q -W default -p no:benchmark -p no:cacheprovider)

stage environment 30 bash -c environment
if [[ -e ${packages[0]} ]]; then
    stage install 60 "${install[@]}" "${packages[@]}"
fi
stage ceilings 40 "$python" bench/gpu_ceilings.py --json "$out/ceilings.json"
chip=sm_90
[[ -z ${DRY_RUN:-} ]] && found=$("$python" -c "$find_chip") && chip=$found
# On the processor, while the GPU is tested: the served kernels, which later stages find compiled.
stage compile 150 "$python" tests/kernel_ops/compiler.py --chip "$chip" &
stage numerics 150 "${pytest[@]}" -n 6 tests/kernel_ops
wait
stage gpu-tests 150 "${pytest[@]}" -n 4 tests/gpu
stage kernels 150 "$python" bench/kernels.py --json "$out/kernels.json"
stage serving 200 "$python" bench/vs_transformers.py --device cuda --shape chatglm2-6b \
    --dtype bfloat16 --concurrency 1 16 64 --prompt-tokens 1024 --output-tokens 128 --rounds 2 \
    --json "$out/serving.json"
[[ -n ${DRY_RUN:-} ]] && exit 0
"$python" bench/gpu_report.py "$out" | tee -a "$out/log.txt"
cat "$out/stages.tsv"
! grep -qvP '\t0\t' "$out/stages.tsv"
