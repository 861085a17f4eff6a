"""Compiles the kernels that bench/gpu.sh runs, where there is no GPU, into one archive.

    python -m gpu_stages.compile_ahead FILE.tar.xz [--chip sm_90] [--operations rms_norm ...]

The archive is a cache of Triton's, with nothing but the code and what describes it, and the small C
modules that launch it. It is used by the same version of Triton on the same version of Python, in
any folder. bench/gpu_kernels.sh installs those of the GPU machine and runs this.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

KEPT = (".cubin", ".json", ".so")
"""Ends of the names of the files that a cache needs to be of use."""
_SERVERS: tuple[dict[str, Any], ...] = (
    {},
    {"quantization": "int8"},
    {"quantization": "int4"},
    {"kv_cache_dtype": "int8"},
)
"""Options of the servers that the stages start."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the archive to write")
    parser.add_argument("--chip", default="sm_90")
    parser.add_argument("--operations", nargs="+", metavar="NAME", help="default: all, and servers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        cache = Path(os.environ["TRITON_CACHE_DIR"])
        names = options.operations or _operations()
        # New processes, as LD_LIBRARY_PATH counts only when one starts.
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            kernels = sum(pool.map(partial(compile_operation, chip=options.chip), names))
            if not options.operations:
                kernels += sum(pool.map(partial(compile_server, chip=options.chip), _SERVERS))
                kernels += sum(pool.map(partial(compile_apart, chip=options.chip), _SERVERS))
                kernels += pool.submit(compile_programmatic, options.chip).result()
        pack(cache, options.file)
    size = options.file.stat().st_size / 2**20
    print(f"{options.file}: {kernels} kernels for {options.chip}, {size:.1f} MiB")


def prepare(folder: Path) -> None:
    """Let Triton compile into the folder, and find a library of that name where CUDA has none."""
    stub = folder / "libcuda"
    stub.mkdir()
    subprocess.run(
        [
            "cc",
            "-shared",
            "-Wl,-soname,libcuda.so.1",
            "-o",
            stub / "libcuda.so.1",
            "-xc",
            os.devnull,
        ],
        check=True,
    )
    os.environ |= {
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(folder / "cache"),
        "TRITON_LIBCUDA_PATH": str(stub),
        "LD_LIBRARY_PATH": str(stub),
    }


def _operations() -> list[str]:
    from glmserve_kernels.registry import NAMES

    return list(NAMES)


def compile_operation(name: str, chip: str) -> int:
    """Compile what tests and measurements of one operation launch; the number of kernels."""
    import torch
    from compiler import CHIPS, compiling_for, served_on

    from glmserve_kernels.operation import Maker
    from glmserve_kernels.registry import load
    from glmserve_kernels.tiles import load_tiles
    from kernel_arguments import is_for

    operation = load(name)
    tiles = load_tiles(name, chip)
    small = [(c, d) for c in operation.cases if is_for(c, operation, chip) for d in c.dtypes]
    with compiling_for(CHIPS[chip].target) as compiled:
        for case, dtype in [*small, *served_on(operation, chip)]:
            operation.launch(**case.make(Maker(torch.device("meta"), dtype)), tiles=tiles)
    build_launchers(compiled)
    return len(compiled)


def compile_server(options: dict[str, Any], chip: str) -> int:
    """Compile what a server of ChatGLM2-6B's shape in bfloat16 launches."""
    import torch
    from compile_server import start
    from compiler import CHIPS, compiling_for

    with compiling_for(CHIPS[chip].target) as compiled, torch.inference_mode():
        start(chip, torch.bfloat16, max_batch_size=256, **options)
    build_launchers(compiled)
    return len(compiled)


def compile_apart(options: dict[str, Any], chip: str) -> int:
    """Compile what a server launches without the kernels for few rows."""
    with patch("glmserve.ops.gpu.few_rows.most_rows", return_value=0):
        return compile_server(options, chip)


def compile_programmatic(chip: str) -> int:
    """Compile what a server launches with launches that start while the kernel before ends, if the
    chip has such."""
    from glmserve_kernels.tiles import closest_chip

    if closest_chip(chip) != "sm_90":
        return 0
    with patch("glmserve.ops.gpu.few_rows.is_programmatic", return_value=True):
        return compile_server({}, chip)


def build_launchers(kernels: Iterable[Any]) -> None:
    """Compile the C module of Triton's driver, and those that launch these kernels.

    Since Triton 3.8 the driver's own module launches all kernels.
    """
    sys.setdlopenflags(os.RTLD_LAZY)  # CUDA's functions are missing, and are not called
    from triton.backends.nvidia import driver

    driver.CudaUtils()
    if hasattr(driver, "make_launcher"):
        for kernel in kernels:
            driver.CudaLauncher(kernel.src, kernel.metadata)


def pack(cache: Path, file: Path, kept: Sequence[str] = KEPT) -> None:
    """Write an archive of a cache's useful files."""
    with tarfile.open(file, "w:xz") as archive:
        for path in sorted(cache.rglob("*")):
            if path.is_file() and path.name.endswith(tuple(kept)):
                archive.add(path, path.relative_to(cache))


if __name__ == "__main__":
    main()
