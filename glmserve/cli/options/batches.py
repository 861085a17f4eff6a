"""Options for files and batches."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import values
from glmserve.config import BatchConfig


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "batches" to a command."""
    group = parser.add_argument_group("batches")
    group.add_argument(
        "--batch-dir",
        type=Path,
        metavar="FOLDER",
        help="where files and batches of users are kept (/v1/files, /v1/batches); without it, "
        "these routes are refused. A folder belongs to one server",
    )
    group.add_argument(
        "--batch-file-size",
        type=values.num_bytes,
        default="200M",
        metavar="BYTES",
        help="largest file that is accepted",
    )
    group.add_argument(
        "--batch-storage",
        type=values.num_bytes,
        default="10G",
        metavar="BYTES",
        help="what all files of one API key may take when another is sent",
    )
    group.add_argument(
        "--batch-lines",
        type=values.non_negative,
        default=50_000,
        metavar="N",
        help="requests of one batch; 0: no limit",
    )
    group.add_argument(
        "--batch-queue",
        type=values.non_negative,
        default=100,
        metavar="N",
        help="unfinished batches of one API key; 0: no limit",
    )
    group.add_argument(
        "--batch-keep",
        type=values.seconds,
        default=30 * 24 * 3600.0,
        metavar="SECONDS",
        help="how long a file is kept if its owner does not say; 0: until it is deleted",
    )


def batch_config(options: argparse.Namespace) -> BatchConfig | None:
    """Where and how much is kept; None: nothing."""
    if options.batch_dir is None:
        return None
    return BatchConfig(
        options.batch_dir,
        options.batch_file_size,
        options.batch_storage,
        options.batch_lines,
        options.batch_queue,
        int(options.batch_keep),
    )
