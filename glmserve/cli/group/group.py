"""A group of machines, as the command line knows it."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from glmserve import __version__
from glmserve.cli.checkpoint_files import checkpoint_file, checkpoint_folders
from glmserve.cli.group.key import read_group_key
from glmserve.cli.group.layout import read_layout
from glmserve.config import RunnerConfig
from glmserve.contract.member import MemberInfo
from glmserve.errors import CheckpointError, OptionError
from glmserve.journal import fingerprint
from glmserve.machines.layout import Layout, is_loopback
from glmserve.machines.leader import Leader
from glmserve.machines.meeting import listen
from glmserve.machines.member import Member


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


def lead(group: MachineGroup, runner: RunnerConfig) -> Leader:
    """Take the group's port, and make the leader of the group.

    Raises:
        OptionError: the port is taken.
        CheckpointError: the checkpoint cannot be read.
    """
    port = group.layout.port
    try:
        listener = listen(port, on_loopback=group.on_loopback)
    except OSError as error:
        raise OptionError(
            f"cannot listen on port {port} for the other machines: "
            f"{(error.strerror or str(error)).lower()}; give another one by --leader HOST:PORT on "
            "each machine"
        ) from None
    return Leader(
        group.layout,
        listener,
        runner,
        _fingerprint(runner),
        group.key,
        group.timeout,
        on_loopback=group.on_loopback,
    )


def run_member(group: MachineGroup, runner: RunnerConfig) -> int:
    """Run this machine's ranks for the leader until a signal; returns the exit code.

    Raises:
        StartupError: the leader refuses this machine, or the checkpoint cannot be read.
    """
    layout = group.layout
    info = MemberInfo(
        version=__version__,
        number=layout.number,
        count=layout.count,
        instance=secrets.token_hex(8),
        host=socket.gethostname(),
        places=layout.places,
        config=runner,
        checkpoint=_fingerprint(runner),
    )
    first = layout.number * len(layout.places)
    ranks = ", ".join(str(first + i) for i in range(len(layout.places)))
    print(
        f"glmserve {__version__}: {layout.name_of(layout.number)} of {layout.count}, for rank "
        f"{ranks} of {runner.num_ranks}; the leader is {layout.host}:{layout.port}",
        flush=True,
    )
    member = Member(layout, info, group.key, on_loopback=group.on_loopback)
    asyncio.run(_until_signal(member))
    return 0


async def _until_signal(member: Member) -> None:
    running = asyncio.create_task(member.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


def _fingerprint(runner: RunnerConfig) -> str:
    try:
        return fingerprint(checkpoint_folders(runner), [checkpoint_file(runner)])
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}") from None
