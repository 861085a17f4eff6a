"""What the storage knows of a file and of a batch."""

from __future__ import annotations

from typing import Literal

import msgspec

Purpose = Literal["batch", "batch_output"]

Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")


class FileRecord(msgspec.Struct, frozen=True):
    """A stored file. Times are Unix seconds."""

    id: str
    owner: str
    """Identifies the API key; empty: there are no keys."""
    name: str
    """What the client calls it; it is no path."""
    purpose: Purpose
    num_bytes: int
    created: int
    expires: int | None = None
    """None: it is kept until it is deleted."""


class LineProblem(msgspec.Struct, frozen=True):
    """What is wrong with an input file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchRecord(msgspec.Struct):
    """A batch. Times are Unix seconds."""

    id: str
    owner: str
    """As of a file."""
    endpoint: str
    """The path that all lines ask."""
    input_file: str
    window: str
    """As the client wrote it."""
    created: int
    expires: int
    """When the lines that are not answered yet expire."""
    status: Status = "validating"
    metadata: dict[str, str] | None = None
    output_file: str = ""
    """Id of the file that gets the answers; it is no stored file before the batch has ended."""
    error_file: str = ""
    output_seconds: int | None = None
    """How long these files are kept; None: as long as the server keeps files."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    problems: list[LineProblem] = []
    """Why the status is failed."""
    times: dict[str, int] = {}
    """When it got each status after the first."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.status not in UNFINISHED

    def enter(self, status: Status, now: float) -> None:
        """Change the status."""
        self.status = status
        self.times[status] = int(now)
