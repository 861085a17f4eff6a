"""What this machine or a container of it lets us use, and what we give back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from glmserve.devices.host import available_memory
from glmserve.process import cpus
from glmserve.process.cpus import usable_cores

MIB = 2**20

VERSION_2 = {
    "memory.max": 100 * MIB,
    "memory.current": 50 * MIB,
    "memory.stat": f"anon 1\nfile {20 * MIB}\ninactive_file 3",
    "cpu.max": "100000 100000",
}
VERSION_1 = {
    "memory/memory.limit_in_bytes": 100 * MIB,
    "memory/memory.usage_in_bytes": 50 * MIB,
    "memory/memory.stat": f"cache 7\ntotal_cache {20 * MIB}",
    "cpu/cpu.cfs_quota_us": 150000,
    "cpu/cpu.cfs_period_us": 100000,
}
UNLIMITED = (
    {"memory.max": "max", "memory.current": 5, "cpu.max": "max 100000"},
    {
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "memory/memory.usage_in_bytes": 5,
        "cpu/cpu.cfs_quota_us": -1,
        "cpu/cpu.cfs_period_us": 100000,
    },
    {},
)


def write(folder: Path, files: Mapping[str, object]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1], ids=["cgroup v2", "cgroup v1"])
def test_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, object]
) -> None:
    monkeypatch.setattr(cpus, "_CGROUP", write(tmp_path, files))
    assert available_memory() == 70 * MIB  # the page cache gives way
    assert usable_cores() == 1


@pytest.mark.parametrize("files", UNLIMITED, ids=["cgroup v2", "cgroup v1", "none"])
def test_no_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, object]
) -> None:
    monkeypatch.setattr(cpus, "_CGROUP", write(tmp_path, files))
    assert available_memory() > 70 * MIB
    assert cpus.cpu_quota() is None


def test_free_memory_is_returned() -> None:
    """A hundred thousand small pieces, of which the last stays: without help nothing goes back."""
    code = """
from glmserve.devices.host import return_free_memory
import ctypes, re
if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    raise SystemExit(print("no glibc"))
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def held():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
pieces = [libc.malloc(4000) for _ in range(10**4)]
for piece in pieces:
    ctypes.memset(ctypes.c_void_p(piece), 1, 4000)
for piece in pieces[:-1]:
    libc.free(piece)
before = held()
return_free_memory()
print(before - held())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = result.stdout.strip()
    if found == "no glibc":
        pytest.skip(found)
    assert int(found) > 30_000  # KiB, of 39,000
