"""The server's end of a group of Ray actors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from glmserve.config import RunnerConfig
from glmserve.contract.wire import decode_json, encode_json
from glmserve.errors import StartupError
from glmserve.executor.machine import Machine
from glmserve.machines.layout import Layout
from glmserve.machines.leader import Leader
from glmserve.machines.likeness import fingerprint_of
from glmserve.machines.meeting import listen
from glmserve.machines.ray.order import Order, Report

logger = logging.getLogger(__name__)

_PACKAGE_ROOT = Path(__file__).parents[3]
_STOP_TIMEOUT = 5.0
"""Seconds for the launcher to end by itself."""


class RayMachines:
    """An actor for each rank, and none on this machine unless Ray puts it here. See Machines.

    Args:
        config: the workers'.
        timeout: seconds of silence after which an actor is taken for lost.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(self, config: RunnerConfig, timeout: float) -> None:
        key = secrets.token_bytes(32)
        listener = listen(0, on_loopback=False)
        port = listener.getsockname()[1]
        count = config.num_ranks
        layout = Layout(
            count=count + 1, number=0, host="", port=port, places=(), noun="actor", stays=False
        )
        self._order = Order(count=count, port=port, key=key.hex(), config=config)
        self._leader = Leader(
            layout, listener, config, fingerprint_of(config), key, timeout, on_loopback=False
        )
        self._launcher: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._report = Report(waiting="Ray has not answered yet")

    @property
    def missing(self) -> str:
        """See Machines."""
        return self._report.waiting or self._leader.missing

    async def start(self) -> None:
        """See Machines."""
        await self._leader.start()

    async def gather(self) -> Sequence[Machine]:
        """See Machines.

        Raises:
            StartupError: the launcher has given up.
        """
        if self._listening is None or self._listening.done():
            await self._start_launcher()
        assert self._listening is not None
        gathering = asyncio.create_task(self._leader.gather())
        try:
            await asyncio.wait([gathering, self._listening], return_when=asyncio.FIRST_COMPLETED)
            if gathering.done():
                return gathering.result()
            raise StartupError(self._report.failed or "the process that uses Ray has ended")
        finally:
            gathering.cancel()

    async def close(self) -> None:
        """See Machines."""
        await self._leader.close()
        if self._launcher is not None and self._launcher.returncode is None:
            if self._report.waiting:
                self._launcher.kill()  # it has no actors
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._launcher.wait(), _STOP_TIMEOUT)
            if self._launcher.returncode is None:
                self._launcher.kill()
                await self._launcher.wait()
        if self._listening is not None:
            await self._listening

    async def _start_launcher(self) -> None:
        # As for the worker, a file named ray.py in the current folder must not be run.
        code = (
            f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
            f"from glmserve.machines.ray.launcher import main; main({os.getpid()})"
        )
        self._launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-c", code),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server
        )
        self._listening = asyncio.create_task(self._listen(self._launcher))

    async def _listen(self, launcher: asyncio.subprocess.Process) -> None:
        assert launcher.stdin is not None and launcher.stdout is not None
        launcher.stdin.write(encode_json(self._order))
        launcher.stdin.close()
        async for line in launcher.stdout:
            report = decode_json(line, Report)
            if report.waiting and report != self._report:
                logger.warning("waiting: %s", report.waiting)
            self._report = report
        await launcher.wait()
