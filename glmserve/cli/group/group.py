"""A group of machines, as the command line knows it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import msgspec

from glmserve.cli.group.key import read_group_key
from glmserve.cli.group.layout import read_layout
from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.machines.layout import Layout, is_loopback


@dataclass(frozen=True)
class MachineGroup:
    """The machines of a model, of which this one is one."""

    layout: Layout
    key: bytes
    timeout: float
    """Seconds of silence after which a machine is taken for lost."""
    on_loopback: bool
    """Whether all members are on this machine."""

    def planned(self, runner: RunnerConfig) -> RunnerConfig:
        """A config that says on how many machines like this one the ranks are."""
        here = self.layout.places[0].size
        return msgspec.structs.replace(runner, num_machines=runner.num_ranks // here)


def read_group(
    options: argparse.Namespace, runner: RunnerConfig, environment: Mapping[str, str]
) -> MachineGroup | None:
    """The group that options and environment describe; None: this process starts all ranks, or
    lets Ray do so.

    Raises:
        OptionError: they contradict each other, or the key or Ray is missing.
    """
    if options.executor == "ray" and find_spec("ray") is None:
        raise OptionError(
            "--executor ray needs the package ray, here and on all machines of the cluster; "
            "pip install 'glmserve[ray]'"
        )
    if options.executor == "ray" and runner.cpus is not None:
        raise OptionError(
            "--cpus and --numa-node name CPUs of this machine, and Ray chooses the machine of a "
            "rank; --threads says how many CPUs each rank reserves"
        )
    layout = read_layout(options, runner.num_ranks, environment)
    if layout is None:
        return None
    on_loopback = is_loopback(layout.host)
    key = read_group_key(options.group_key_file, environment, on_loopback=on_loopback)
    return MachineGroup(layout, key, options.machine_timeout, on_loopback)
