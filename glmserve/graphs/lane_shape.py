"""The sizes of a static graph over lanes."""

from __future__ import annotations

from typing import NamedTuple


class LaneShape(NamedTuple):
    """What one graph computes in a call."""

    lanes: int
    """Sequences, each in a lane of its own."""
    tokens: int
    """New tokens of each."""
    total_len: int
    """Slots of a lane."""
