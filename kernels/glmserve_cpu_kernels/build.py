"""Compiles `src/` into one shared library with the kernels of every instruction set.

    python build.py

Needs a C++20 compiler: g++ or clang++, or the one that $CXX names. Run by the installation, which
continues without these kernels if there is none.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
LIBRARY = Path(__file__).parent / "_kernels.so"

_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")
INSTRUCTION_SETS = {
    "avx2": _AVX2,
    "avx512_vnni": _AVX512,
    "avx512_bf16": (*_AVX512, "-mavx512bf16"),
}
_FOR_EVERY_SET = ("attention.cpp", "elementwise.cpp", "linear.cpp", "sampling.cpp")
"""Sources that hold kernels; the others run on any CPU."""

# No contraction: every compiler fuses a product and a sum only where the source says so.
_FLAGS = ("-std=c++20", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-ffp-contract=off")


class BuildError(Exception):
    """The kernels could not be compiled; the message says why."""


def build(target: Path = LIBRARY) -> None:
    """Compile and link; an existing `target` is replaced when that has succeeded.

    Raises:
        BuildError: not for this machine, no compiler, or the compiler's message.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise BuildError(f"written for x86-64 Linux; this is {platform.machine()} {sys.platform}")
    compiler = _compiler()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        jobs = _jobs(Path(folder))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job: _run([*compiler, *_FLAGS, "-c", *job]), jobs))
        # The linker keeps the first of equal inline functions: let it be one that runs anywhere.
        objects = [job[-1] for job in jobs]
        library = Path(folder) / target.name
        _run([*compiler, "-shared", "-pthread", "-o", str(library), *objects])
        library.replace(target)


def is_current(target: Path = LIBRARY) -> bool:
    """Whether `target` is newer than all files that it is compiled from."""
    if not target.exists():
        return False
    built = target.stat().st_mtime
    return all(path.stat().st_mtime < built for path in (*SOURCES.iterdir(), Path(__file__)))


def _jobs(folder: Path) -> list[tuple[str, ...]]:
    """The compiler's arguments for each object file; the last one is its name."""
    jobs: list[tuple[str, ...]] = [
        (str(source), "-o", str(folder / f"{source.stem}.o"))
        for source in sorted(SOURCES.glob("*.cpp"))
        if source.name not in _FOR_EVERY_SET
    ]
    for name, flags in INSTRUCTION_SETS.items():
        for source in map(Path, _FOR_EVERY_SET):
            target = folder / f"{source.stem}_{name}.o"
            jobs.append((*flags, f"-DGLM_ISA={name}", str(SOURCES / source), "-o", str(target)))
    return jobs


def _compiler() -> list[str]:
    named = os.environ.get("CXX")
    if named:
        return shlex.split(named)
    for name in ("g++", "clang++"):
        path = shutil.which(name)
        if path:
            return [path]
    raise BuildError("there is no C++ compiler: install g++ or clang++, or name one in $CXX")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"{command[0]} does not run: {error}") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{shlex.join(command)}\n{error.stderr}") from None


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    build()
