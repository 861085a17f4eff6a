"""A group of machines, as the command line knows it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.cli.group.key import read_group_key
from glmserve.cli.group.layout import read_layout
from glmserve.config import RunnerConfig
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


def read_group(
    options: argparse.Namespace, runner: RunnerConfig, environment: Mapping[str, str]
) -> MachineGroup | None:
    """The group that options and environment describe; None: this process starts all ranks.

    Raises:
        OptionError: they contradict each other, or the key is missing.
    """
    layout = read_layout(options, runner.num_ranks, environment)
    if layout is None:
        return None
    on_loopback = is_loopback(layout.host)
    key = read_group_key(options.group_key_file, environment, on_loopback=on_loopback)
    return MachineGroup(layout, key, options.machine_timeout, on_loopback)
