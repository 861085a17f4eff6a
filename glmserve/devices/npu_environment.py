"""Environment variables of torch_npu and of Ascend's runtime.

The command line reads them (`NpuEnvironment`), and the device sets those that have a better default
than the vendor's, before torch_npu is imported.
"""

from __future__ import annotations

import os

from glmserve.config import NpuEnvironment
from glmserve.errors import OptionError

ALLOCATOR = "PYTORCH_NPU_ALLOC_CONF"
TASK_QUEUE = "TASK_QUEUE_ENABLE"
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
BINDING = "BIND_CPU"

_ALLOCATOR_DEFAULT = "expandable_segments:True"
"""Segments grow, so that blocks of other sizes leave no gaps. vllm-ascend sets the same."""
_TASK_QUEUE_DEFAULT = "1"
"""Calls are queued by one thread and sent to the NPU by another; torch_npu's own default."""


def settings(environment: NpuEnvironment) -> dict[str, str]:
    """The values that are in effect, by variable; also for the doctor."""
    found = {
        ALLOCATOR: environment.allocator or _ALLOCATOR_DEFAULT,
        TASK_QUEUE: environment.task_queue or _TASK_QUEUE_DEFAULT,
        BINDING: environment.bind_cpu or "1",
    }
    if environment.visible_devices is not None:
        found[VISIBLE] = environment.visible_devices
    return found


def prepare_process(environment: NpuEnvironment) -> None:
    """Set what torch_npu reads once, when it is imported."""
    found = settings(environment)
    for name in (ALLOCATOR, TASK_QUEUE):
        os.environ[name] = found[name]


def visible_npu(environment: NpuEnvironment, place: int) -> int:
    """The machine's number of one of the NPUs that the runtime shows to this process.

    Args:
        place: which of them.

    Raises:
        OptionError: ASCEND_RT_VISIBLE_DEVICES is no list of numbers, or has too few.
    """
    if environment.visible_devices is None:
        return place
    numbers = environment.visible_devices.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise OptionError(
            f"{VISIBLE}={environment.visible_devices}: expected numbers of NPUs such as 0,1; "
            "where there are none, take --device cpu"
        )
    if place >= len(numbers):
        raise OptionError(
            f"{VISIBLE}={environment.visible_devices}: {place + 1} ranks need as many NPUs"
        )
    return int(numbers[place])


def binds_cpus(environment: NpuEnvironment) -> bool:
    """Whether the worker keeps to the CPUs of the NPU's NUMA node.

    Raises:
        OptionError: BIND_CPU is neither 0 nor 1.
    """
    if environment.bind_cpu not in (None, "", "0", "1"):
        raise OptionError(f"{BINDING}={environment.bind_cpu}: expected 0 or 1")
    return environment.bind_cpu != "0"
