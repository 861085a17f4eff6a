"""What the doctor sees of this machine."""

from __future__ import annotations

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT, NpuEnvironment, RunnerConfig
from glmserve.devices import host
from glmserve.probe import machine
from glmserve.probe.machine import look_at_machine
from glmserve.process import cpus
from glmserve_cpu_kernels.library import UnavailableError, load

CONFIG = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT))


def test_this_machine() -> None:
    found = look_at_machine(CONFIG)
    assert 1 <= found.cores <= found.logical_cpus
    assert 0 < found.available_bytes < found.total_bytes
    assert found.versions["torch"]
    assert [d.name for d in found.devices][:3] == ["cuda", "rocm", "cpu"]
    assert {d.name: d.available for d in found.devices}["cpu"]
    assert all(d.reason for d in found.devices)
    assert "null" not in [d.name for d in found.devices]
    try:
        assert found.kernels == load().instruction_set
    except UnavailableError as error:
        assert found.no_kernels_reason == str(error)


def test_what_options_change() -> None:
    found = look_at_machine(RunnerConfig(checkpoint="", device="null", cpu_kernels="torch"))
    assert found.kernels is None
    assert "--cpu-kernels torch" in found.no_kernels_reason
    assert "null" in [d.name for d in found.devices]


def test_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "cpu_quota", lambda: 0.5)
    monkeypatch.setattr(host, "memory_limit", lambda: 2**30)
    monkeypatch.setattr(machine.cpus, "instruction_sets", lambda: frozenset({"fma", "avx2", "hle"}))
    found = look_at_machine(CONFIG)
    assert (found.cpu_quota, found.cores, found.limit_bytes) == (0.5, 1, 2**30)
    assert found.instruction_sets == ["avx2", "fma"]


def test_variables_of_a_device_that_is_asked_for() -> None:
    """Even if it cannot be used; those of others are not shown, and bad values are the reason."""
    asked = RunnerConfig(checkpoint="", device="ascend", npu=NpuEnvironment(bind_cpu="0"))
    found = {d.name: d for d in look_at_machine(asked).devices}
    assert found["ascend"].settings["BIND_CPU"] == "0"
    assert not {d.name: d for d in look_at_machine(CONFIG).devices}["ascend"].settings
    wrong = RunnerConfig(checkpoint="", device="ascend", npu=NpuEnvironment(bind_cpu="no"))
    reasons = {d.name: d.reason for d in look_at_machine(wrong).devices}
    assert reasons["ascend"] == "BIND_CPU=no: expected 0 or 1"
