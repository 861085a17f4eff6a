"""Memory that a process and all its descendants hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Proportional sizes in bytes (proc_pid_smaps(5)).

    A page counts in parts where several processes map it, so sums count it once.
    """

    total: int
    anonymous: int
    """Without pages of files, which the system can drop and read again."""


def tree_memory(pid: int, proc: Path = Path("/proc")) -> Memory:
    """Of `pid` and its descendants together."""
    parts = [_memory(proc / str(one)) for one in (pid, *descendants(pid, proc))]
    return Memory(sum(p.total for p in parts), sum(p.anonymous for p in parts))


def descendants(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Ids of the processes below `pid`, each behind its parent."""
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit() and (parent := _parent(folder)) is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _parent(folder: Path) -> int | None:
    """Its parent's id; None if it has just ended."""
    try:
        stat = (folder / "stat").read_text(errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])  # a name may hold spaces and brackets


def _memory(folder: Path) -> Memory:
    try:
        text = (folder / "smaps_rollup").read_text()
    except OSError:
        return Memory(0, 0)
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    return Memory(sizes.get("Pss", 0), sizes.get("Pss_Anon", 0))
