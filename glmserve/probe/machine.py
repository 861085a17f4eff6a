"""Describes the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from glmserve.config import RunnerConfig
from glmserve.contract.diagnosis import DeviceFinding, GpuFinding, Machine
from glmserve.devices import host
from glmserve.devices.base import ConfigurableDevice
from glmserve.devices.registry import device_names, load_device, probe
from glmserve.errors import StartupError
from glmserve.ops.cpu.select_ops import native_kernels
from glmserve.process import cpus

_INSTRUCTION_SETS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
_PACKAGES = (
    *("torch", "triton", "transformers", "xformers"),
    *("torch_npu", "onnxruntime", "openvino"),
)
_INTERNAL_DEVICES = {"null"}
"""Devices for measuring only, left out of the list of devices."""


def look_at_machine(config: RunnerConfig) -> Machine:
    """Describe the machine, independently of the checkpoint.

    Args:
        config: its cpu_kernels option decides about our kernels; its device is always listed.
    """
    kernels, reason = _kernels(config)
    found = cpus.instruction_sets()
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu=cpus.cpu_name(),
        cores=cpus.usable_cores(),
        logical_cpus=_logical_cpus(),
        cpu_quota=cpus.cpu_quota(),
        instruction_sets=[name for name in _INSTRUCTION_SETS if name in found],
        kernels=kernels,
        no_kernels_reason=reason,
        total_bytes=host.total_memory(),
        available_bytes=host.available_memory(),
        limit_bytes=host.memory_limit(),
        versions={"python": platform.python_version(), **{p: _version(p) for p in _PACKAGES}},
        devices=_devices(config),
        gpus=_gpus(),
    )


def _logical_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kernels(config: RunnerConfig) -> tuple[str | None, str]:
    """The instruction set of our CPU kernels, or None and the reason."""
    try:
        native = native_kernels(config)
    except StartupError as error:  # --cpu-kernels native
        return None, error.message
    return (native.library.instruction_set, "") if native.library else (None, native.reason)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices(config: RunnerConfig) -> list[DeviceFinding]:
    names = [name for name in device_names() if name not in _INTERNAL_DEVICES - {config.device}]
    return [_look_at(name, config) for name in names]


def _look_at(name: str, config: RunnerConfig) -> DeviceFinding:
    try:
        device = load_device(name)
        info = probe(device)
        settings = {}
        if isinstance(device, ConfigurableDevice) and (info.available or name == config.device):
            settings = device.settings(config)
    except StartupError as error:
        return DeviceFinding(name, False, error.message)
    return DeviceFinding(name, info.available, info.reason, settings)


def _gpus() -> list[GpuFinding]:
    """All GPUs that torch finds; glmserve uses the first."""
    if not torch.cuda.is_available():
        return []
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found.append(GpuFinding(torch.cuda.get_device_name(number), total, free))
    return found
