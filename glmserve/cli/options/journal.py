"""Options for the journal, which outlives the server process."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import values
from glmserve.config import JournalConfig


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "journal" to a command."""
    group = parser.add_argument_group("journal")
    group.add_argument(
        "--journal",
        type=Path,
        metavar="DIR",
        help="folder for accepted requests and their answers so far; after a crash or a restart, "
        "clients get the rest (Last-Event-ID, Idempotency-Key); one server per folder",
    )
    group.add_argument(
        "--journal-keep",
        type=values.seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long an answer is kept for a client that comes back",
    )
    group.add_argument(
        "--journal-size",
        type=values.num_bytes,
        default="1G",
        metavar="BYTES",
        help="largest size of the journal. When it is full, finished answers are deleted first; "
        "then requests are served without the journal",
    )


def journal_config(options: argparse.Namespace) -> JournalConfig | None:
    """The journal's folder and limits; None without a journal."""
    if options.journal is None:
        return None
    return JournalConfig(options.journal, options.journal_keep, options.journal_size)
