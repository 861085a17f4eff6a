"""Puts the parts of a server together, without HTTP and without starting anything."""

from __future__ import annotations

import secrets
from pathlib import Path

from glmserve.api.answering.context import ServerContext
from glmserve.cli.journal import open_journal
from glmserve.cli.served_model import ServedModel
from glmserve.config import JournalConfig, SchedulerConfig, ServerConfig, SupervisionConfig
from glmserve.engine import Engine
from glmserve.executor import Executor, Machines, ProcessExecutor
from glmserve.trace import TraceWriter, TracingExecutor


def assemble(
    served: ServedModel,
    supervision: SupervisionConfig,
    scheduler: SchedulerConfig,
    server: ServerConfig,
    *,
    journal: JournalConfig | None = None,
    machines: Machines | None = None,
    record: Path | None = None,
) -> ServerContext:
    """A context that can be started: the engine, its worker process, and what answers.

    Args:
        machines: that the model's ranks run on; None: this one.
        record: file for a recording, or None.

    Raises:
        StartupError: the journal or the recording cannot be used.
    """
    model, runner, chat = served.model, served.runner, served.selected.chat
    processes = ProcessExecutor(runner, supervision, machines)
    executor: Executor = processes
    writer = None
    if record is not None:
        writer = TraceWriter(record, runner)
        executor = TracingExecutor(executor, writer)
    engine = Engine(executor, scheduler, hash_key=secrets.token_bytes(32), observer=writer)
    engine.stats.watch_ranks(processes.rank_states)
    context = ServerContext(
        server, model, engine, served.tokenizer, chat, served.defaults, served.selected.reason
    )
    if journal is not None:
        context.record_to(open_journal(journal, model, runner, chat, served.defaults))
    return context
