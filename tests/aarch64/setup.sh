#!/usr/bin/env bash
# Prepares a folder in which this x86-64 machine runs Python and glmserve's kernels for aarch64.
#
#   tests/aarch64/setup.sh FOLDER
#
# Needs root on Debian or Ubuntu, and the network: installs qemu-user-static and the cross compiler,
# and downloads Debian's Python and PyPI's wheels for aarch64 into the folder, which takes 1 GB.
# Afterwards: GLMSERVE_AARCH64=FOLDER pytest -m aarch64
set -euo pipefail
mkdir -p "$1" && folder=$(cd "$1" && pwd)
dpkg --add-architecture arm64
apt-get update --quiet
apt-get install --yes --quiet g++-aarch64-linux-gnu qemu-user-static
mkdir -p "$folder/debs" && cd "$folder/debs"
packages=(libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 libgomp1 liblzma5 libncursesw6
    libpython3.11-minimal libpython3.11-stdlib libreadline8 libsqlite3-0 libssl3 libstdc++6 libtinfo6
    libuuid1 python3.11 python3.11-minimal zlib1g)
apt-get download --quiet "${packages[@]/%/:arm64}"
for package in *.deb; do
    dpkg --extract "$package" "$folder/root"
done
# The last torch without CUDA that PyPI has for aarch64, and what the kernels' tests import.
python3 -m pip install --quiet --no-deps --only-binary :all: --python-version 3.11 \
    --implementation cp --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    --target "$folder/packages" --upgrade torch==2.10.0 triton==3.9.0 numpy msgspec ml-dtypes \
    safetensors regex sentencepiece tiktoken typing-extensions sympy mpmath networkx jinja2 \
    markupsafe fsspec filelock prometheus-client redis pytest iniconfig packaging pluggy pygments \
    pytest-asyncio pytest-timeout pytest-xdist execnet hypothesis sortedcontainers
echo "ready: GLMSERVE_AARCH64=$folder pytest -m aarch64"
