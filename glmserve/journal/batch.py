"""What one commit writes, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from glmserve.journal.entry import Delta, Entry, Phase


@dataclass
class Batch:
    """What is written in one transaction, in this order."""

    inserts: list[tuple[Entry, bytes]] = field(default_factory=list)
    """New entries with the bodies of their requests."""
    deltas: list[tuple[int, Delta]] = field(default_factory=list)
    """(entry id, delta)."""
    phases: list[tuple[int, Phase, float | None]] = field(default_factory=list)
    """(entry id, new phase, expiry in Unix seconds or None)."""
    attempts: list[tuple[int, int]] = field(default_factory=list)
    """(entry id, 1) of entries that this server starts to finish after another one; (entry id, -1)
    if the attempt did not begin."""
    deletes: list[int] = field(default_factory=list)
    """Ids of entries to delete."""
    refused: list[Entry] = field(default_factory=list)
    """Entries that were reserved in a shared store and never begun."""


class Written(NamedTuple):
    """Entries of a batch that were left out of a transaction; all others are written."""

    taken: frozenset[int] = frozenset()
    """Ids of entries that another server goes on with."""
    gone: frozenset[int] = frozenset()
    """Ids of entries that the store has lost, or the end of whose record it has lost."""
