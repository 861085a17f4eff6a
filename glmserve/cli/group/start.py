"""Starts this machine's part of a group: the leader's, or another one's."""

from __future__ import annotations

import asyncio
import errno
import os
import signal

from glmserve import __version__
from glmserve.cli.group.group import MachineGroup
from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.executor import Machines
from glmserve.machines.leader import Leader
from glmserve.machines.likeness import fingerprint_of
from glmserve.machines.meeting import listen
from glmserve.machines.member import Member, describe
from glmserve.machines.ray.ray_machines import RayMachines
from glmserve.process.service_manager import ServiceManager


def machines_of(
    executor: str, group: MachineGroup | None, runner: RunnerConfig, timeout: float
) -> Machines | None:
    """The machines of the model's ranks; None: this one.

    Args:
        executor: value of --executor.
        group: that this process leads.
        timeout: seconds of silence after which a machine is taken for lost.

    Raises:
        StartupError: it cannot lead them.
    """
    if executor == "ray":
        return RayMachines(runner, timeout)
    return None if group is None else lead(group, runner)


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
            f"{os.strerror(error.errno or errno.EINVAL).lower()}; give another one by --leader "
            "HOST:PORT on each machine"
        ) from None
    return Leader(
        group.layout,
        listener,
        runner,
        fingerprint_of(runner),
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
    info = describe(layout, runner)
    first = layout.number * len(layout.places)
    ranks = ", ".join(str(first + i) for i in range(len(layout.places)))
    print(
        f"glmserve {__version__}: {layout.name_of(layout.number)} of {layout.count}, for rank "
        f"{ranks} of {runner.num_ranks}; the leader is {layout.host}:{layout.port}",
        flush=True,
    )
    member = Member(layout, info, group.key, on_loopback=group.on_loopback)
    manager = ServiceManager.take_from(os.environ)
    manager.tell(READY=1, STATUS=f"{layout.name_of(layout.number)} for {layout.host}")
    asyncio.run(run_until_signal(member, manager))
    manager.tell(STOPPING=1)
    return 0


async def run_until_signal(member: Member, manager: ServiceManager) -> None:
    """Run a member, with signs of life for the service manager.

    Raises:
        StartupError: see Member.run.
    """
    running = asyncio.create_task(member.run())
    living = asyncio.create_task(_live(manager))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    living.cancel()
    if not running.cancelled():
        running.result()


async def _live(manager: ServiceManager) -> None:
    while manager.watchdog:
        manager.tell(WATCHDOG=1)
        await asyncio.sleep(manager.watchdog / 4)
