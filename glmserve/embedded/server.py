"""A server in this process: the pipeline of `glmserve serve` behind a method instead of HTTP."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from glmserve.api.answering.caller import ANONYMOUS
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest
from glmserve.api.answering.outcome import AnswerStream, WholeAnswer
from glmserve.api.answering.pipeline import answer
from glmserve.api.endpoints import answer_endpoints
from glmserve.api.openai.responses.store import ResponseStore
from glmserve.api.protocol.parsing import parse_large_request
from glmserve.cli.adapter_checks import check_adapters
from glmserve.cli.assembly import assemble
from glmserve.cli.group.start import machines_of
from glmserve.cli.head_start import head_start
from glmserve.cli.options import runner_config, scheduler_config, supervision_config
from glmserve.cli.serve import server_config
from glmserve.cli.served_model import read_served_model
from glmserve.config import ReportProgress, RunnerConfig, report_nothing
from glmserve.errors import InvalidRequestError
from glmserve.executor import Machines


class EmbeddedServer:
    """Answers requests of the HTTP API that come as values of Python, or as JSON.

    Args:
        context: of a started server.
    """

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self._endpoints = answer_endpoints(ResponseStore(context.config.response_store_size))

    @property
    def paths(self) -> frozenset[str]:
        """The paths that `answer` knows, such as /v1/chat/completions."""
        return frozenset(self._endpoints)

    async def answer(
        self, path: str, body: bytes | Mapping[str, Any]
    ) -> WholeAnswer | AnswerStream:
        """Answer one request as the server would.

        Args:
            path: of the API, one of `paths`.
            body: the request, as JSON or decoded.

        Returns:
            The JSON body of the answer; with `stream: true` its events. A stream must be closed.

        Raises:
            InvalidRequestError: the path or the body is none of this API.
            GlmserveError: the request cannot be honoured, or the generation failed.
        """
        return await answer(self.context, await self._parsed(path, body))

    async def _parsed(self, path: str, body: bytes | Mapping[str, Any]) -> AnswerRequest:
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            known = ", ".join(sorted(self._endpoints))
            raise InvalidRequestError(f"there is no {path[:100]!r} here; there are {known}")
        unknown = self.context.unknown_fields
        data = body if isinstance(body, bytes) else _json(body)
        parsed = await parse_large_request(endpoint.request_type, data, unknown)
        if getattr(parsed, "background", False):
            raise InvalidRequestError(
                "background: without HTTP there is no way to ask for the answer later", "background"
            )
        return AnswerRequest(endpoint, parsed, b"", ANONYMOUS)


@asynccontextmanager
async def start_server(
    options: argparse.Namespace, progress: ReportProgress = report_nothing
) -> AsyncIterator[EmbeddedServer]:
    """Load a model in a worker process of its own, answer, and end the process.

    Everything runs on the event loop of this call; no signal handler is set.

    Args:
        options: see `read_options` and `complete`.
        progress: called while the model loads.

    Raises:
        StartupError: the model cannot be loaded.
    """
    runner = runner_config(options)
    machines = machines_of(options.executor, None, runner, options.machine_timeout)
    # The worker ends with the thread that starts it, so it is started here.
    with head_start(runner, machines) as machines:
        context = await asyncio.to_thread(_assembled, options, runner, machines)
        try:
            await context.start(progress)
            yield EmbeddedServer(context)
        finally:
            await context.close()


def _assembled(
    options: argparse.Namespace, runner: RunnerConfig, machines: Machines | None
) -> ServerContext:
    """Read everything but the weights."""
    server = server_config(options)
    check_adapters(server.adapters, server.model_names)
    return assemble(
        read_served_model(options, runner),
        supervision_config(options),
        scheduler_config(options, ()),
        server,
        machines=machines,
        record=options.record,
    )


def _json(body: Mapping[str, Any]) -> bytes:
    """The body as a client would send it.

    Raises:
        InvalidRequestError: something in it has no place in JSON.
    """
    try:
        return json.dumps(body, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be written as JSON: {error}") from None


def _plain(value: object) -> object:
    """An object within a body as a client would send it: messages that were answers before."""
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: item for name, item in given.items() if item is not None}
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    raise TypeError(f"a {type(value).__name__} has no place in JSON")
