"""Compiles `src/` into one shared library with the kernels of every instruction set.

    python build.py
    CXX=aarch64-linux-gnu-g++ python build.py --machine aarch64 --target arm/_kernels.so

Needs a C++20 compiler: g++ from 11 on or clang++ from 12 on, or the one that $CXX names. Run by the
installation, which continues without these kernels if there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
LIBRARY = Path(__file__).parent / "_kernels.so"

_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")
OF_MACHINES: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "avx2": _AVX2,
        "avx2_vnni": (*_AVX2, "-mavxvnni"),
        "avx512_vnni": _AVX512,
        "avx512_bf16": (*_AVX512, "-mavx512bf16"),
        "amx": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    },
    "aarch64": {
        "neon": ("-march=armv8-a",),
        "neon_dotprod": ("-march=armv8.2-a+dotprod",),
        "neon_bf16": ("-march=armv8.2-a+dotprod+i8mm+bf16",),
    },
}
"""The compiler's flags for each instruction set, from the oldest on, by kind of machine."""
INSTRUCTION_SETS = OF_MACHINES.get(platform.machine(), {})
"""Those of this machine; its CPU may lack some."""
_FOR_EVERY_SET = ("attention.cpp", "elementwise.cpp", "linear.cpp", "lora.cpp", "sampling.cpp")
"""Sources that hold kernels; the others run on any CPU."""
_OF_SETS = {"avx2_vnni": ("linear.cpp",), "amx": ("linear_amx.cpp",)}
"""Sources that are compiled for these sets; the rest of their kernels are another set's."""
_OF_SOME_SETS = {*_FOR_EVERY_SET, *chain(*_OF_SETS.values())}

# No contraction: every compiler fuses a product and a sum only where the source says so.
_FLAGS = ("-std=c++20", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-ffp-contract=off")


class BuildError(Exception):
    """The kernels could not be compiled; the message says why."""


def build(target: Path = LIBRARY, machine: str | None = None) -> None:
    """Compile and link; an existing `target` is replaced when that has succeeded.

    Args:
        machine: "x86_64" or "aarch64", which the compiler compiles for; None: this one.

    Raises:
        BuildError: not for this machine, no compiler, or the compiler's message.
    """
    machine = machine or platform.machine()
    if sys.platform != "linux" or machine not in OF_MACHINES:
        raise BuildError(
            f"written for Linux on x86-64 or aarch64; this is {machine} {sys.platform}"
        )
    compiler = _compiler()
    # Beside its target, since a rename is atomic only within one file system.
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    with _sigterm_unwinds(), tempfile.TemporaryDirectory(prefix="glmserve-kernels-") as folder:
        jobs = _jobs(Path(folder), OF_MACHINES[machine])
        _run_all([[*compiler, *_FLAGS, "-c", *job] for job in jobs])
        # The linker keeps the first of equal inline functions: let it be one that runs anywhere.
        objects = [job[-1] for job in jobs]
        try:
            _run([*compiler, "-shared", "-pthread", "-o", str(partial), *objects])
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def is_current(target: Path = LIBRARY) -> bool:
    """Whether `target` is newer than all files that it is compiled from."""
    if not target.exists():
        return False
    built = target.stat().st_mtime
    return all(path.stat().st_mtime < built for path in (*SOURCES.iterdir(), Path(__file__)))


def _jobs(folder: Path, sets: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """The compiler's arguments for each object file; the last one is its name."""
    jobs: list[tuple[str, ...]] = [
        (str(source), "-o", str(folder / f"{source.stem}.o"))
        for source in sorted(SOURCES.glob("*.cpp"))
        if source.name not in _OF_SOME_SETS
    ]
    for name, flags in sets.items():
        for source in map(Path, _OF_SETS.get(name, _FOR_EVERY_SET)):
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


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """SIGTERM raises SystemExit, as Ctrl-C raises KeyboardInterrupt: what was begun is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set a handler
        return

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_all(commands: Sequence[list[str]]) -> None:
    """As many at once as there are CPUs. After a failure or a signal no further one starts."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        list(pool.map(_run, commands))
    finally:
        pool.shutdown(cancel_futures=True)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"{command[0]} does not run: {error}") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{shlex.join(command)}\n{error.stderr}") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machine", choices=OF_MACHINES, help="default: this one")
    parser.add_argument("--target", type=Path, default=LIBRARY)
    options = parser.parse_args()
    build(options.target, options.machine)
