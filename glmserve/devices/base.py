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
        """The memory needs that `create_runner` would plan with; nothing is loaded. With
        several ranks, those of the rank that needs most.

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


@runtime_checkable
class AdapterDevice(Device, Protocol):
    """A device whose runners are AdapterRunners if RunnerConfig.max_adapters asks for it."""

    serves_adapters: bool
    """True."""


def refuse_adapters(device: Device, config: RunnerConfig) -> None:
    """Check that the device has room for adapters, if any are wanted.

    Raises:
        OptionError: it has none.
    """
    if config.max_adapters and not (isinstance(device, AdapterDevice) and device.serves_adapters):
        raise OptionError(
            f"--adapter, --adapter-dir and --max-adapters: the {device.name} device serves no "
            "adapters; merge the adapter into its model with `glmserve convert --merge-adapter`, "
            "or choose another device"
        )


def refuse_ranks(device: Device, config: RunnerConfig) -> None:
    """Check that the device can compute with so many ranks.

    Raises:
        OptionError: it computes with one.
    """
    if config.num_ranks > 1 and not isinstance(device, ParallelDevice):
        option = "tensor" if config.tensor_parallel_size > 1 else "pipeline"
        size = getattr(config, f"{option}_parallel_size")
        raise OptionError(
            f"--{option}-parallel-size {size}: the {device.name} device computes a model in one "
            "process; leave the option out"
        )


def place_of(config: RunnerConfig) -> Shard:
    """The rank's number among those of its machine, and how many these are; of a config that is for
    no rank, of the last one."""
    if config.group is not None:
        return config.group.local
    here = max(1, config.num_ranks // config.num_machines)
    return Shard(here - 1, here)
