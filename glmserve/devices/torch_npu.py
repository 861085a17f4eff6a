"""Ascend's driver as torch_npu shows it. Only `open` imports torch_npu."""

from __future__ import annotations

import ctypes
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch

from glmserve.errors import DeviceError

_DEVICES = Path("/dev")
_RUNTIME = "libascendcl.so"


class NpuDriver(Protocol):
    """One of the visible NPUs."""

    collectives: str
    """Name of the backend of torch.distributed by which NPUs exchange tensors."""

    @property
    def device(self) -> torch.device:
        """Only after `open`."""
        ...

    def why_unusable(self) -> str | None:
        """Why there is no NPU here; None: there is one. Nothing is initialised."""
        ...

    def describe(self) -> str:
        """What there is, for people. Nothing is initialised."""
        ...

    def count(self) -> int:
        """Number of NPUs of this machine. Nothing is initialised."""
        ...

    def open(self, place: int) -> str:
        """Make an NPU this process's device and load the vendor's calls.

        Args:
            place: which of the visible ones.

        Returns:
            The chip's name, such as "Ascend910B3".

        Raises:
            DeviceError: the driver or the runtime does not work.
        """
        ...

    def memory(self) -> tuple[int, int]:
        """Free bytes and all bytes of the opened NPU."""
        ...


class TorchNpu:
    """The NpuDriver of real NPUs."""

    collectives = "hccl"

    def __init__(self) -> None:
        self._place = 0

    @property
    def device(self) -> torch.device:
        return torch.device("npu", self._place)

    def why_unusable(self) -> str | None:
        if find_spec("torch_npu") is None:
            return "the torch_npu package is missing; pip install 'glmserve[ascend]'"
        return _why_wrong_version() or _why_no_npu() or _why_no_runtime()

    def describe(self) -> str:
        count = self.count()
        return f"{count} NPU{'s' if count > 1 else ''}, torch_npu {version('torch_npu')}"

    def count(self) -> int:
        return len(_nodes())

    def open(self, place: int) -> str:
        self._place = place
        try:
            import torch_npu

            torch_npu.npu.set_device(place)
            name: str = torch_npu.npu.get_device_name(place)
        except (ImportError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise DeviceError(
                f"--device ascend: torch_npu cannot use the NPU: {reason}; `npu-smi info` shows "
                "whether the driver works, and CANN's set_env.sh must be sourced"
            ) from None
        return name

    def memory(self) -> tuple[int, int]:
        import torch_npu

        free, total = torch_npu.npu.mem_get_info(self._place)
        return free, total


def _why_wrong_version() -> str | None:
    """torch_npu works with the torch that it was built for, and crashes with others."""
    try:
        found = version("torch_npu")
    except PackageNotFoundError:
        return "torch_npu is there, but was not installed by pip, so its version is unknown"
    needed, present = found.split(".")[:2], torch.__version__.split(".")[:2]
    if needed != present:
        return (
            f"torch_npu {found} is for torch {'.'.join(needed)}, and this is torch "
            f"{torch.__version__}; install the pair of one version"
        )
    return None


def _nodes() -> list[Path]:
    """The device files of NPUs."""
    return [p for p in _DEVICES.glob("davinci*") if p.name.removeprefix("davinci").isdecimal()]


def _why_no_npu() -> str | None:
    if _nodes():
        return None
    return "no NPU: /dev/davinci0 is missing; the driver is not loaded, or the container lacks it"


def _why_no_runtime() -> str | None:
    try:
        ctypes.CDLL(_RUNTIME)
    except OSError as error:
        return f"CANN's runtime cannot be loaded ({error}); source its set_env.sh"
    return None
