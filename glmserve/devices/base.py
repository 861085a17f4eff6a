"""The interface of a device plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.shard import Shard
from glmserve.contract.step import Runner
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.runner.limits import MemoryNeeds

if TYPE_CHECKING:
    from glmserve.ops.collectives import Collectives


class DeviceInfo(NamedTuple):
    """Whether a device can be used on this machine."""

    available: bool
    reason: str
    """Reason, for people."""


class Device(Protocol):
    """One kind of hardware, or one way to use it."""

    name: str

    def probe(self) -> DeviceInfo:
        """Check whether the device is usable, without keeping it open."""
        ...

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> Runner:
        """Load the model.

        Raises:
            StartupError: it cannot be loaded here.
        """
        ...


@runtime_checkable
class ParallelDevice(Device, Protocol):
    """A device on which the ranks of a group can compute one model together."""

    def places(self) -> int:
        """Ranks that get a device of their own here, or a NUMA node of it."""
        ...

    def join(self, config: RunnerConfig) -> Collectives:
        """Join the group of `config`, and wait for its other ranks.

        Raises:
            RankLostError: another rank is gone.
        """
        ...


@runtime_checkable
class PlanningDevice(Device, Protocol):
    """A device that can compute the memory a model needs, for `glmserve doctor`."""

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        """The memory needs that `create_runner` would plan with; nothing is loaded. With a
        tensor_parallel_size above 1, those of the rank that needs most.

        Raises:
            StartupError: an option is not supported on this device.
        """
        ...


@runtime_checkable
class ConfigurableDevice(Device, Protocol):
    """A device that reads environment variables, for `glmserve doctor`."""

    def settings(self, config: RunnerConfig) -> dict[str, str]:
        """The values in effect, by variable; nothing is initialised.

        Raises:
            OptionError: a value is not valid.
        """
        ...


def refuse_ranks(device: Device, size: int) -> None:
    """Check that the device can compute with so many ranks.

    Raises:
        OptionError: it computes with one.
    """
    if size > 1 and not isinstance(device, ParallelDevice):
        raise OptionError(
            f"--tensor-parallel-size {size}: the {device.name} device computes a model in one "
            "process; leave the option out"
        )


def shard_of(config: RunnerConfig) -> Shard:
    """The part of the model for a config: of the rank that it is for, else of the last one, which
    has the longest part of what does not divide evenly."""
    size = config.tensor_parallel_size
    return Shard(size - 1, size) if config.group is None else config.group.shard


def place_of(config: RunnerConfig) -> Shard:
    """The rank's number among those of its machine, and how many these are. See `shard_of`."""
    if config.group is not None:
        return config.group.local
    here = max(1, config.tensor_parallel_size // config.num_machines)
    return Shard(here - 1, here)
