"""What keeps a worker to CPUs and to a node's memory, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.devices import affinity
from glmserve.errors import DeviceError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")


IMPORTS = """
import os
from glmserve.devices.affinity import *
from glmserve.process.cpus import usable_cores
"""


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS + code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_threads_stay_there_too() -> None:
    cpu = max(os.sched_getaffinity(0))
    code = f"""
import threading
run_on([{cpu}], None)
found = []
thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
thread.start()
thread.join()
print(found[0], usable_cores())
"""
    assert run(code) == f"{{{cpu}}} 1"


def test_memory_of_a_node() -> None:
    nodes = Path("/sys/devices/system/node")
    if not (nodes / "node0").exists() or platform.machine() not in affinity._SET_MEMPOLICY:
        pytest.skip("no NUMA here")
    code = """
cpus = os.sched_getaffinity(0)
try:
    run_on(cpus, 0)
    print(open("/proc/self/numa_maps").read())
except DeviceError as error:
    print(error.message)
"""
    found = run(code)
    if "Operation not permitted" in found:
        pytest.skip("a container that may not choose")
    assert "prefer:0" in found or "prefer=static:0" in found


def test_what_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="--cpus: the worker cannot keep to them"):
        affinity.run_on([2**14], None)
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(DeviceError, match="--numa-node is not known on vax; use --cpus"):
        affinity.run_on(os.sched_getaffinity(0), 0)


def test_a_node_that_is_not_there() -> None:
    code = """
try:
    run_on(os.sched_getaffinity(0), 900)
except DeviceError as error:
    print(error.message)
"""
    assert "--numa-node 900: its memory cannot be preferred here" in run(code)


def test_the_worker_sets_its_environment_before_torch_is_loaded() -> None:
    """libgomp reads OMP_WAIT_POLICY once, and threads are where they were started."""
    assert run("import sys, glmserve.worker.main\nprint('torch' in sys.modules)") == "False"
