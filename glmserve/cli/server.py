"""Builds a server and runs it until a signal, or until its worker dies for good."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop
from starlette.applications import Starlette

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.unfinished import finish_unfinished
from glmserve.api.app import create_app
from glmserve.api.batching.runner import BatchRunner
from glmserve.api.http.body import BodyMemory
from glmserve.batches.storage import BatchStorage
from glmserve.cli.announce import LoadingBar, announce
from glmserve.cli.assembly import assemble
from glmserve.cli.http_server import HttpServer
from glmserve.cli.listening import Address, listen
from glmserve.cli.observation import Observation
from glmserve.cli.served_model import ServedModel
from glmserve.cli.service_status import ServiceStatus
from glmserve.config import (
    BatchConfig,
    ConnectionConfig,
    JournalConfig,
    LoadProgress,
    SchedulerConfig,
    ServerConfig,
    SupervisionConfig,
)
from glmserve.engine import Engine
from glmserve.errors import StartupError
from glmserve.executor import Machines
from glmserve.process.failure import INTERRUPTED
from glmserve.process.service_manager import ServiceManager

_COLLECTOR_THRESHOLDS = (50_000, 10, 10)
"""See gc.set_threshold. A step of 256 sequences makes thousands of objects that are freed by their
reference counts; at Python's first threshold of 700 the collector took 7 % of the process's time
(perf, 256 streams), at this one 2 %. What it finds are remains of requests, some kilobytes each."""
_ERROR_EVENT_SECONDS = 1
"""Seconds to deliver the error event to streams that the shutdown ends."""


def serve(
    served: ServedModel,
    supervision_config: SupervisionConfig,
    scheduler_config: SchedulerConfig,
    server_config: ServerConfig,
    limits: ConnectionConfig,
    journal_config: JournalConfig | None,
    batch_config: BatchConfig | None,
    machines: Machines | None,
    *,
    address: Address,
    drain_timeout: float,
    tls: ssl.SSLContext | None,
    record: Path | None,
) -> int:
    """Run the server; returns the exit code.

    Args:
        machines: that the model's ranks run on; None: this one.
        drain_timeout: seconds for running streams after a signal.
        record: file for a recording, or None.
        tls: None serves plain HTTP.

    Raises:
        StartupError: the server cannot start, or its worker died for good.
    """
    manager = ServiceManager.take_from(os.environ)
    with listen(address) as listener, closing(Observation(server_config)) as observation:
        context = assemble(
            served,
            supervision_config,
            scheduler_config,
            server_config,
            journal=journal_config,
            machines=machines,
            record=record,
        )
        if batch_config is not None:
            context.batches = BatchStorage(batch_config)
        name = server_config.served_model_name
        status = ServiceStatus(manager, context.engine, name, supervision_config)
        return uvloop.run(_run(context, listener, limits, status, observation, drain_timeout, tls))


class _Server(HttpServer):
    """uvicorn with draining: new and waiting requests are refused, running ones may finish.

    Streams that are still running at the end of the drain time, or at a second signal, get an error
    event before their connections are closed.
    """

    def __init__(
        self,
        engine: Engine,
        app: Starlette,
        limits: ConnectionConfig,
        tls: ssl.SSLContext | None,
        status: ServiceStatus,
        drain_timeout: float,
    ) -> None:
        memory: BodyMemory = app.state.body_memory
        grace_period = math.ceil(drain_timeout) + _ERROR_EVENT_SECONDS
        super().__init__(app, limits, tls, memory, grace_period)
        self._engine = engine
        self._status = status
        self._drain_timeout = drain_timeout
        self._loop: asyncio.AbstractEventLoop | None = None  # while it drains

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal: the first starts draining, the second ends it."""
        if not self.should_exit:
            super().handle_exit(sig, frame)
            return
        self._drain_timeout = 0.0
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_streams_now, self._loop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._status.stopping(self._drain_timeout)
        self._engine.drain("this server is shutting down; try another, or later")
        end_of_drain = self._loop.call_later(self._drain_timeout, self._engine.end_streams)
        await super().shutdown(sockets)
        end_of_drain.cancel()

    def _end_streams_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._engine.end_streams()
        loop.call_later(_ERROR_EVENT_SECONDS, self._force_exit)

    def _force_exit(self) -> None:
        self.force_exit = True


async def _run(
    context: ServerContext,
    listener: socket.socket,
    limits: ConnectionConfig,
    status: ServiceStatus,
    observation: Observation,
    drain_timeout: float,
    tls: ssl.SSLContext | None,
) -> int:
    """Answer HTTP at once, and load the model meanwhile. Returns the exit code."""
    app = create_app(context, observation.observers, observation.layers)
    server = _Server(context.engine, app, limits, tls, status, drain_timeout)
    signals = set()

    def stop(number: int, frame: FrameType | None) -> None:
        signals.add(number)
        server.should_exit = True

    # uvicorn raises the signal again when it is done; that must not kill this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # The end of the terminal session, which uvicorn does not handle. `nohup` sets SIG_IGN.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, partial(_drain, server))
    is_up = asyncio.Event()
    tell = partial(announce, context, listener, has_tls=tls is not None)
    supervisor = asyncio.create_task(_supervise(app, context, server, status, tell, is_up))
    try:
        await server.serve(sockets=[listener])
    finally:
        supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor
        await context.close()
    return INTERRUPTED if signal.SIGINT in signals and not is_up.is_set() else 0


def _drain(server: _Server, number: int, frame: FrameType | None) -> None:
    """Start draining. Service managers send SIGHUP right after SIGTERM: that must not end it."""
    if not server.should_exit:
        server.handle_exit(signal.SIGTERM, frame)


async def _supervise(
    app: Starlette,
    context: ServerContext,
    server: uvicorn.Server,
    status: ServiceStatus,
    tell: Callable[[], None],
    is_up: asyncio.Event,
) -> None:
    """Start the engine, announce it, and end the server when the engine dies.

    Args:
        tell: announces the server.
        is_up: set when the engine has started.

    Raises:
        StartupError: the engine could not start, or died.
    """
    others = [asyncio.create_task(status.watch())]
    try:
        with closing(LoadingBar()) as bar:

            def report(progress: LoadProgress) -> None:
                bar.update(progress)
                status.loading(progress)

            await context.start(report)
        # Objects that exist now stay, so the garbage collector need not visit them again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECTOR_THRESHOLDS)
        is_up.set()
        status.ready()
        with contextlib.suppress(OSError):  # a closed stdout must not stop the server
            tell()
        others.append(asyncio.create_task(finish_unfinished(context, app.state.endpoints)))
        batches: BatchRunner | None = app.state.batches
        if batches is not None:
            others.append(asyncio.create_task(batches.run()))
        await context.engine.died.wait()
        if server.should_exit:
            return
        cause = context.engine.cause_of_death
        raise StartupError(cause.message if cause else "the engine has died")
    finally:
        for task in others:
            task.cancel()
        server.should_exit = True
        await asyncio.wait(others)
