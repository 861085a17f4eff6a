"""What an executor reports about one rank of its group."""

from __future__ import annotations

from typing import NamedTuple


class RankState(NamedTuple):
    """What became of one rank so far."""

    is_up: bool
    steps: int
    """Steps that its present worker has done."""
    losses: int
    """Times its worker ended and took the group with it."""
