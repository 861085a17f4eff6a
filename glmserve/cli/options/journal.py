"""What outlives the server."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import values
from glmserve.config import JournalConfig


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("journal")
    group.add_argument(
        "--journal",
        type=Path,
        metavar="DIR",
        help="keep accepted requests and their answers so far in a folder of this server's own: "
        "after a crash or a restart, clients get the rest (Last-Event-ID, Idempotency-Key)",
    )
    group.add_argument(
        "--journal-keep",
        type=values.seconds,
        default=600.0,
        metavar="SECONDS",
        help="for which clients may come back for an answer",
    )
    group.add_argument(
        "--journal-size",
        type=values.num_bytes,
        default="1G",
        metavar="BYTES",
        help="of the journal; beyond them finished answers go first, and then requests go on "
        "without it",
    )


def journal_config(options: argparse.Namespace) -> JournalConfig | None:
    """Where the journal is and how long it remembers; None without one."""
    if options.journal is None:
        return None
    return JournalConfig(options.journal, options.journal_keep, options.journal_size)
