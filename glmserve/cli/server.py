"""Puts a server together and runs it until a signal, or until no worker lives."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import secrets
import signal
import socket
import ssl
import sys
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.types import ASGIApp

from glmserve.api import ServerContext, create_app
from glmserve.api.recording.unfinished import finish_unfinished
from glmserve.cli.announce import LoadingBar, announce
from glmserve.cli.http_protocol import HttpProtocol
from glmserve.cli.journal import open_journal
from glmserve.config import (
    JournalConfig,
    RunnerConfig,
    SchedulerConfig,
    ServerConfig,
    SupervisionConfig,
)
from glmserve.engine import Engine
from glmserve.errors import CheckpointError, OptionError, StartupError
from glmserve.executor import ProcessExecutor
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.text import (
    ChatFormat,
    Tokenizer,
    load_tokenizer,
    read_name_hints,
    select_chat_format,
)

_LAST_WORDS = 1
"""Seconds to deliver the error event of streams that are ended."""


def serve(
    runner_config: RunnerConfig,
    supervision_config: SupervisionConfig,
    scheduler_config: SchedulerConfig,
    server_config: ServerConfig,
    journal_config: JournalConfig | None,
    *,
    skip_tokenizer: bool,
    chat_format: str | None,
    host: str,
    port: int,
    drain_timeout: float,
    tls: ssl.SSLContext | None,
) -> int:
    """Run the server; the process's exit code.

    Args:
        drain_timeout: seconds that streams get once a signal has come.
        tls: None serves plain HTTP.

    Raises:
        StartupError: it cannot start.
    """
    logging.basicConfig(format="glmserve: %(levelname)s: %(message)s", level=logging.WARNING)
    checkpoint = Path(runner_config.checkpoint)
    model = read_model_config(
        checkpoint, runner_config.rope_scaling, runner_config.ptuning_checkpoint
    )
    for field in model.unknown_fields:
        print(f"glmserve: note: {model.path} has a field unknown here: {field}", file=sys.stderr)
    tokenizer, chat = None, None
    if not skip_tokenizer:
        tokenizer, chat = _load_text_layer(model, chat_format)
        runner_config = _limit_vocabulary(runner_config, model, tokenizer)
    engine = Engine(
        ProcessExecutor(runner_config, supervision_config),
        scheduler_config,
        hash_key=secrets.token_bytes(32),
    )
    context = ServerContext(server_config, model, engine, tokenizer, chat)
    if journal_config is not None:
        context.record_to(open_journal(journal_config, model, runner_config, chat))
    with _listen(host, port) as listener:
        return uvloop.run(_run(context, listener, drain_timeout, tls))


def _load_text_layer(model: ModelConfig, chat_format: str | None) -> tuple[Tokenizer, ChatFormat]:
    folder = model.path.parent
    tokenizer = load_tokenizer(folder, chat_format)
    return tokenizer, select_chat_format(read_name_hints(folder), tokenizer, chat_format)


def _limit_vocabulary(
    config: RunnerConfig, model: ModelConfig, tokenizer: Tokenizer
) -> RunnerConfig:
    """Keep the output layer's spare rows from being sampled: no text belongs to them.

    Raises:
        CheckpointError: the model has fewer rows than the tokenizer has ids.
    """
    if tokenizer.vocab_size > model.vocab_size:
        raise CheckpointError(
            f"{model.path}: the vocabulary of {model.vocab_size} is smaller than the "
            f"tokenizer's {tokenizer.vocab_size}; they do not belong together"
        )
    return msgspec.structs.replace(
        config,
        vocab_limit=tokenizer.vocab_size,
        never_sampled=tuple(sorted(tokenizer.never_sampled)),
    )


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything heavy happens.

    Raises:
        OptionError: it is taken, or the host is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OptionError(f"cannot listen on {host}:{port}: {reason.lower()}") from None
    return listener


def uvicorn_config(
    app: ASGIApp, tls: ssl.SSLContext | None, drain_timeout: float
) -> uvicorn.Config:
    """How connections are served, and how long they get when the server ends."""
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(drain_timeout) + _LAST_WORDS,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )


class _Server(uvicorn.Server):
    """uvicorn, but it drains: nothing new is accepted, what waits is sent away, what runs may end.

    Streams that take too long, or longer than a second signal, are told so before they are cut.
    """

    def __init__(self, engine: Engine, config: uvicorn.Config, drain_timeout: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._drain_timeout = drain_timeout
        self._loop: asyncio.AbstractEventLoop | None = None  # while it drains

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come: the first begins to drain, the second puts an end to that."""
        if not self.should_exit:
            super().handle_exit(sig, frame)
            return
        self._drain_timeout = 0.0
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_at_once, self._loop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine.drain("this server is shutting down; try another, or later")
        last_words = self._loop.call_later(self._drain_timeout, self._engine.end_streams)
        await super().shutdown(sockets)
        last_words.cancel()

    def _end_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        self._engine.end_streams()
        loop.call_later(_LAST_WORDS, self._cut)

    def _cut(self) -> None:
        self.force_exit = True


async def _run(
    context: ServerContext,
    listener: socket.socket,
    drain_timeout: float,
    tls: ssl.SSLContext | None,
) -> int:
    """Answer HTTP from the first moment on; load the model beside it."""
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    url = f"{'https' if tls else 'http'}://{host}:{port}"
    app = create_app(context)
    config = uvicorn_config(app, tls, drain_timeout)
    server = _Server(context.engine, config, drain_timeout)
    # uvicorn raises the signal that stopped it once more when it is done; that must not kill us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    supervisor = asyncio.create_task(_supervise(app, context, server, url))
    try:
        await server.serve(sockets=[listener])
    finally:
        supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor
        await context.close()
    return 0


async def _supervise(
    app: Starlette, context: ServerContext, server: uvicorn.Server, url: str
) -> None:
    """Start the engine, announce it, and end the server when the engine dies.

    Raises:
        StartupError: the engine could not start, or died.
    """
    finishing: asyncio.Task[None] | None = None
    try:
        with contextlib.closing(LoadingBar()) as bar:
            await context.start(bar.update)
        # What is here now stays; the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        announce(context, url)
        finishing = asyncio.create_task(finish_unfinished(app))
        await context.engine.died.wait()
        if server.should_exit:
            return
        cause = context.engine.cause_of_death
        raise StartupError(cause.message if cause else "the engine has died")
    finally:
        if finishing is not None:
            finishing.cancel()
        server.should_exit = True
