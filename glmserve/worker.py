"""The worker process: builds one Runner and executes steps until its executor goes away.

Started by executor.process with one end of a socketpair; it opens no other connection.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from typing import NoReturn

import msgspec

from glmserve.config import RunnerConfig
from glmserve.devices.registry import select_device
from glmserve.errors import StartupError
from glmserve.step import Runner, StepInput, TokenMasks
from glmserve.wire import (
    HEADER_SIZE,
    Failed,
    Loading,
    Ready,
    body_size,
    decode_executor_message,
    encode_frame,
)

_PROGRESS_INTERVAL = 0.1  # seconds between two Loading messages
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(descriptor: int) -> None:
    """Serve the executor at the other end of the inherited socket `descriptor`."""
    _follow_parent()
    # libgomp spins at barriers by default, which starves whatever else runs on the cores (here:
    # the server's event loop). It reads this once, when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with socket.socket(fileno=descriptor) as connection:
        try:
            _serve(connection)
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(0)  # the executor is gone; nobody is left to tell


def _serve(connection: socket.socket) -> None:
    runner = _build_runner(connection)
    try:
        _execute_steps(connection, runner)
    finally:
        runner.close()


def _follow_parent() -> None:
    """Die with the server, and leave signals to it: it decides when its worker may stop.

    Ctrl-C and service managers signal the whole group; a worker that obeyed would be gone before
    the server has ended its streams.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _build_runner(connection: socket.socket) -> Runner:
    """Read the RunnerConfig and build what it asks for, or report why not and exit."""
    frame = _receive(connection)
    if frame is None:
        sys.exit(0)
    config = msgspec.msgpack.decode(frame, type=RunnerConfig)
    last_report = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last_report
        now = time.monotonic()
        if done >= total or now - last_report >= _PROGRESS_INTERVAL:
            last_report = now
            connection.sendall(encode_frame(Loading(done, total)))

    try:
        runner = select_device(config.device).create_runner(config, report)
    except StartupError as error:
        _fail(connection, error.message, error.exit_code)
    except ConnectionError:
        raise
    except Exception as error:  # whatever a hostile or damaged checkpoint can provoke
        _fail(connection, f"the model could not be loaded: {type(error).__name__}: {error}", 1)
    connection.sendall(encode_frame(Ready(runner.info)))
    return runner


def _fail(connection: socket.socket, message: str, exit_code: int) -> NoReturn:
    """Report why there is no runner, in one line that can be encoded, and exit."""
    line = " ".join(message.split()).encode("utf-8", "backslashreplace").decode()
    connection.sendall(encode_frame(Failed(line, exit_code)))
    sys.exit(exit_code)


def _execute_steps(connection: socket.socket, runner: Runner) -> None:
    def receive_masks() -> list[bytes]:
        frame = _receive(connection)
        if frame is None:
            raise ConnectionResetError
        message = decode_executor_message(frame)
        assert isinstance(message, TokenMasks), "the executor sends them after their step"
        return message.masks

    while (frame := _receive(connection)) is not None:
        message = decode_executor_message(frame)
        if isinstance(message, StepInput):  # masks whose step has failed come to nobody
            connection.sendall(encode_frame(runner.execute(message, receive_masks)))


def _receive(connection: socket.socket) -> bytearray | None:
    """The next frame's body; None when the executor has closed its end."""
    header = _receive_exactly(connection, HEADER_SIZE)
    return None if header is None else _receive_exactly(connection, body_size(header))


def _receive_exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if not received:
            return None
        view = view[received:]
    return data
