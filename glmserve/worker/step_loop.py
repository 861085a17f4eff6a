"""The worker's loop: receives steps, executes them, sends their outputs.

While a device computes one step, the loop launches the next. Adapters are read beside that, and
come and go between two steps.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import NamedTuple, cast

from glmserve.contract.step import (
    PendingOutput,
    ReleasingRunner,
    Runner,
    StepInput,
    StepOutput,
    TokenMasks,
)
from glmserve.contract.wire import (
    AdapterLoaded,
    ExecutorMessage,
    LoadAdapter,
    ReleaseCache,
    RemoveAdapter,
    decode_executor_message,
    encode_frame,
    receive_frame,
)
from glmserve.worker.adapter_loader import AdapterLoader


def execute_steps(connection: socket.socket, runner: Runner) -> None:
    """Execute the executor's steps until it closes the connection.

    Raises:
        ConnectionError: it closed the connection in the middle of a step.
        Exception: an error of the runner, while launching a step or while waiting for its output.
    """
    with closing(AdapterLoader(runner)) as loader, _Outbox(connection) as outbox:
        inbox = _Inbox(connection, loader)
        while (message := inbox.next_message()) is not None:
            match message:
                case StepInput() as step:
                    outbox.put(runner.execute(step, partial(inbox.masks_of, step.step_id)))
                case LoadAdapter(source):
                    loader.begin(source)
                case RemoveAdapter(adapter_id):
                    loader.remove(adapter_id)
                case ReleaseCache():
                    cast(ReleasingRunner, runner).release_cache()
            for answer in loader.finish() if loader.is_reading else ():
                outbox.put(answer)


class _AdapterRead(NamedTuple):
    """The loader has read an adapter while no message came."""


class _Inbox:
    """Receives messages in the order in which they are needed.

    Args:
        connection: to the executor.
        loader: wakes the inbox.
    """

    def __init__(self, connection: socket.socket, loader: AdapterLoader) -> None:
        self._connection = connection
        self._loader = loader
        self._early: deque[ExecutorMessage] = deque()  # received before the masks of a step

    def next_message(self) -> ExecutorMessage | _AdapterRead | None:
        """Wait for a message or the loader; None: the executor has closed the connection."""
        if self._early:
            return self._early.popleft()
        if self._loader.is_reading:
            incoming = self._connection.fileno()
            ready, _, _ = select.select([incoming, self._loader.fileno()], [], [])
            if incoming not in ready:
                return _AdapterRead()
        return self._receive()

    def masks_of(self, step_id: int) -> list[bytes]:
        """Wait for the masks of a step.

        Raises:
            ConnectionResetError: the executor has closed the connection.
        """
        while (message := self._receive()) is not None:
            if not isinstance(message, TokenMasks):
                self._early.append(message)
            elif message.step_id == step_id:
                return message.masks
        raise ConnectionResetError

    def _receive(self) -> ExecutorMessage | None:
        frame = receive_frame(self._connection)
        return None if frame is None else decode_executor_message(frame)


_Message = StepOutput | AdapterLoaded


class _Outbox:
    """Sends outputs and answers in the order in which they are put.

    A thread waits for outputs of queued steps. If that fails, the connection is closed to the
    inbox, and leaving the outbox raises the error.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[_Message | PendingOutput | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> _Outbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None and error is None:
            self._queue.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def put(self, output: _Message | PendingOutput) -> None:
        """Send it as soon as it and everything before it are ready."""
        if self._thread is None:
            if isinstance(output, _Message):
                self._send(output)
                return
            self._thread = Thread(target=self._send_all, name="outputs", daemon=True)
            self._thread.start()
        self._queue.put(output)

    def _send_all(self) -> None:
        try:
            while (output := self._queue.get()) is not None:
                self._send(output if isinstance(output, _Message) else output())
        except BaseException as error:
            self._error = error
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)

    def _send(self, message: _Message) -> None:
        self._connection.sendall(encode_frame(message))
