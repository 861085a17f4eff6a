"""Memory that a process and all its descendants hold."""

from __future__ import annotations

import re
from pathlib import Path


def tree_memory(pid: int, proc: Path = Path("/proc")) -> int:
    """Proportional set size in bytes (proc_pid_smaps(5)) of `pid` and its descendants.

    A page counts in parts where several processes map it, so the sum counts it once.
    """
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit() and (parent := _parent(folder)) is not None:
            children.setdefault(parent, []).append(int(folder.name))
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += _proportional(proc / str(one))
        waiting += children.get(one, [])
    return total


def _parent(folder: Path) -> int | None:
    """Its parent's id; None if it has just ended."""
    try:
        stat = (folder / "stat").read_text(errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])  # a name may hold spaces and brackets


def _proportional(folder: Path) -> int:
    try:
        text = (folder / "smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
