"""Answers requests by a model of this command's own."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from glmserve.api.answering.caller import ANONYMOUS
from glmserve.api.batching.line import LineAnswer, TryAgainError, answer_line
from glmserve.api.endpoints import answer_endpoints
from glmserve.api.openai.responses.store import ResponseStore
from glmserve.batches.lines import InputLine
from glmserve.cli.batch.answer import Answer
from glmserve.embedded.options import complete
from glmserve.embedded.server import start_server
from glmserve.errors import StartupError


@asynccontextmanager
async def own_answers(options: argparse.Namespace) -> AsyncIterator[tuple[Answer, int]]:
    """What answers requests, and how many run at the same time.

    Raises:
        StartupError: the model cannot be loaded.
    """
    async with start_server(complete(options)) as server:
        context = server.context
        endpoints = answer_endpoints(ResponseStore(0))

        async def answer(line: InputLine) -> LineAnswer:
            try:
                return await answer_line(
                    context, endpoints, line.url, line.body, ANONYMOUS, in_background=False
                )
            except TryAgainError as error:
                raise StartupError(f"{error}; the same command goes on") from None

        yield answer, context.engine.max_running
