"""Memory and descriptors of a process, as Linux counts them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Memory that the process occupies now, shared pages of files left out."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def open_files(pid: int) -> int:
    """Descriptors, sockets included."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def wait_for_open_files(pid: int, most: int, timeout: float = 30) -> None:
    """Until there are no more than `most`."""
    deadline = time.monotonic() + timeout
    while open_files(pid) > most:
        assert time.monotonic() < deadline, "descriptors are left open"
        time.sleep(0.05)
