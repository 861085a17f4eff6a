"""Options for the journal, which outlives the server process."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from glmserve.cli import values
from glmserve.config import JOURNAL_PASSWORD, JournalConfig, RedisAddress

_SCHEMES = ("redis", "rediss", "unix")


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "journal" to a command."""
    group = parser.add_argument_group("journal")
    group.add_argument(
        "--journal",
        type=_place,
        metavar="PLACE",
        help="where accepted requests and their answers so far are kept; after a crash or a "
        "restart, clients get the rest (Last-Event-ID, Idempotency-Key). A folder belongs to one "
        "server. redis://, rediss:// or unix:// is a Redis or Valkey for several servers of one "
        f"model (glmserve[redis]); its password may be in {JOURNAL_PASSWORD}",
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


def _place(text: str) -> Path | RedisAddress:
    """A folder or an address. No message repeats an address, because it may hold a password."""
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES:
        raise argparse.ArgumentTypeError(
            f"{parts.scheme}:// is no place for a journal; give a folder, or an address with "
            + ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        )
    if not _is_address(parts):
        raise argparse.ArgumentTypeError(
            "the address must be like redis://HOST:PORT/DATABASE or unix:///PATH?db=DATABASE"
        )
    return RedisAddress(text)


def _is_address(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return bool(parts.path) and not parts.hostname
    try:
        has_port = parts.port != 0
    except ValueError:
        return False
    return has_port and bool(parts.hostname) and (parts.path.strip("/") or "0").isdecimal()


def journal_config(options: argparse.Namespace) -> JournalConfig | None:
    """The journal's place and limits; None without a journal."""
    if options.journal is None:
        return None
    return JournalConfig(options.journal, options.journal_keep, options.journal_size)
