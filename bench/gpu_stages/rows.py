"""Figures as JSON lines: each row is on disk as soon as it is measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""Its "kind" says what was measured; see the program that writes it."""


def append(path: Path | None, kind: str, row: Row) -> None:
    """Write a row, and print it.

    Args:
        path: the file, which may not exist yet; None: only print.
    """
    line = json.dumps({"kind": kind, **row})
    print(line, flush=True)
    if path is not None:
        with path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """All rows, without lines that a process was stopped in; [] if there is no file."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
