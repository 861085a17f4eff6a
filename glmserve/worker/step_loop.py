"""The worker's loop: receives steps, executes them, sends their outputs.

While a device computes one step, the loop launches the next.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType

from glmserve.contract.step import PendingOutput, Runner, StepInput, StepOutput
from glmserve.contract.wire import (
    ExecutorMessage,
    decode_executor_message,
    encode_frame,
    receive_frame,
)


def execute_steps(connection: socket.socket, runner: Runner) -> None:
    """Execute the executor's steps until it closes the connection.

    Raises:
        ConnectionError: it closed the connection in the middle of a step.
        Exception: an error of the runner, while launching a step or while waiting for its output.
    """
    inbox = _Inbox(connection)
    with _Outbox(connection) as outbox:
        while (step := inbox.next_step()) is not None:
            outbox.put(runner.execute(step, partial(inbox.masks_of, step.step_id)))


class _Inbox:
    """Receives steps and masks in the order in which they are needed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._early: deque[StepInput] = deque()  # received before the masks of the previous step

    def next_step(self) -> StepInput | None:
        """Wait for a step; None: the executor has closed the connection."""
        if self._early:
            return self._early.popleft()
        while (message := self._receive()) is not None:
            if isinstance(message, StepInput):
                return message
        return None

    def masks_of(self, step_id: int) -> list[bytes]:
        """Wait for the masks of a step.

        Raises:
            ConnectionResetError: the executor has closed the connection.
        """
        while (message := self._receive()) is not None:
            if isinstance(message, StepInput):
                self._early.append(message)
            elif message.step_id == step_id:
                return message.masks
        raise ConnectionResetError

    def _receive(self) -> ExecutorMessage | None:
        frame = receive_frame(self._connection)
        return None if frame is None else decode_executor_message(frame)


class _Outbox:
    """Sends outputs in the order of their steps.

    A thread waits for outputs of queued steps. If that fails, the connection is closed to the
    inbox, and leaving the outbox raises the error.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[StepOutput | PendingOutput | None] = SimpleQueue()
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

    def put(self, output: StepOutput | PendingOutput) -> None:
        """Send an output as soon as it and all earlier ones are ready."""
        if self._thread is None:
            if isinstance(output, StepOutput):
                self._send(output)
                return
            self._thread = Thread(target=self._send_all, name="outputs", daemon=True)
            self._thread.start()
        self._queue.put(output)

    def _send_all(self) -> None:
        try:
            while (output := self._queue.get()) is not None:
                self._send(output if isinstance(output, StepOutput) else output())
        except BaseException as error:
            self._error = error
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)

    def _send(self, output: StepOutput) -> None:
        self._connection.sendall(encode_frame(output))
