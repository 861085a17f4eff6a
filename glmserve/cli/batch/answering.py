"""Answers the lines of a file, so many at a time, and writes each answer when it is there."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tqdm import tqdm

from glmserve.api.batching.line import OK
from glmserve.api.http.request_id import new_request_id
from glmserve.batches.answers import AnswerFiles
from glmserve.batches.lines import InputLine
from glmserve.batches.output_lines import answer_line
from glmserve.batches.slabs import Slabs
from glmserve.cli.batch.answer import Answer
from glmserve.cli.batch.files import BatchFiles
from glmserve.cli.batch.remote import remote_answers
from glmserve.config import ServerConfig
from glmserve.errors import StartupError
from glmserve.process.failure import INTERRUPTED

SOME_FAILED = 3
"""Exit code: requests could not be answered, and the error file says why."""


async def answer_file(options: argparse.Namespace, files: BatchFiles, api_key: str) -> int:
    """Answer what is not answered yet; returns the exit code.

    Args:
        api_key: for a remote server; empty: none.

    Raises:
        OptionError: a file is wrong.
        StartupError: no further request can be answered. What is answered is written.
    """
    largest = ServerConfig("").max_body_size
    total = await asyncio.to_thread(files.check, largest)
    with files.open_answers(largest) as answers:
        remaining = total - len(answers.done)
        if remaining:
            async with _answers(options, api_key) as (answer, at_once):
                progress = tqdm(
                    total=total,
                    initial=len(answers.done),
                    unit="request",
                    disable=not sys.stderr.isatty(),
                )
                with progress:
                    writer = _Writer(files, largest, answers, answer, at_once, progress)
                    if not await _until_interrupted(writer.answer_all()):
                        print(_goes_on(answers, total), file=sys.stderr)
                        return INTERRUPTED
        print(_summary(files, answers), file=sys.stderr)
        return SOME_FAILED if answers.num_failed else 0


@asynccontextmanager
async def _answers(options: argparse.Namespace, api_key: str) -> AsyncIterator[tuple[Answer, int]]:
    """What answers requests, and how many to ask at the same time."""
    if options.url is not None:
        at_once = options.at_once or 32
        async with remote_answers(options.url, api_key, at_once, options.retries) as answer:
            yield answer, at_once
        return
    from glmserve.cli.batch.own_model import own_answers  # a remote one needs none of this

    async with own_answers(options) as (answer, most):
        yield answer, options.at_once or most


class _Writer:
    """Asks and writes."""

    def __init__(
        self,
        files: BatchFiles,
        max_body_size: int,
        answers: AnswerFiles,
        answer: Answer,
        at_once: int,
        progress: tqdm[None],
    ) -> None:
        self._files = files
        self._max_body_size = max_body_size
        self._answers = answers
        self._answer = answer
        self._places = asyncio.Semaphore(at_once)
        self._progress = progress

    async def answer_all(self) -> None:
        """Answer all lines that are not answered.

        Raises:
            StartupError: the first reason why no further one can be.
        """
        try:
            async with asyncio.TaskGroup() as group:
                with Slabs(
                    self._files.source, self._max_body_size, None, self._answers.done
                ) as slabs:
                    async for slab in slabs:
                        for line in slab:
                            await self._places.acquire()
                            group.create_task(self._answer_line(line))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._answers.settle()

    async def _answer_line(self, line: InputLine) -> None:
        try:
            status, body = await self._answer(line)
            record = answer_line(line.number, line.custom_id, new_request_id(), status, body)
            await self._answers.add(line.custom_id, record, has_failed=status != OK)
            self._progress.update()
        except OSError as error:
            raise StartupError(
                f"an answer cannot be written ({error.strerror or error}); when there is room, the "
                "same command goes on"
            ) from None
        finally:
            self._places.release()


async def _until_interrupted(work: Coroutine[Any, Any, None]) -> bool:
    """Do the work until it is done or a signal asks to stop; whether it is done."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    is_interrupted = False

    def stop() -> None:
        nonlocal is_interrupted
        is_interrupted = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return not is_interrupted
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _goes_on(answers: AnswerFiles, total: int) -> str:
    return (
        f"glmserve batch: stopped after {len(answers.done)} of {total} requests; the same command "
        "goes on"
    )


def _summary(files: BatchFiles, answers: AnswerFiles) -> str:
    done = f"glmserve batch: {answers.num_completed} requests are answered in {files.output}"
    if not answers.num_failed:
        return done
    return f"{done}; {answers.num_failed} could not be, and {files.errors} says why"
