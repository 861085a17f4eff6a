"""New tokens on their way through the parts of a graph over lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from glmserve.graphs.session import Array


class LaneCall(NamedTuple):
    """What one call of a graph computes. B lanes, N new tokens of each."""

    graph: str
    """Its name, of the base graph or of an incremental one."""
    first: int
    """The first lane."""
    token_ids: Array
    """int64 [B, N]; arbitrary where no sequence is."""
    past_lengths: Array
    """int64 [B]: tokens of each lane in its cache; 0 where no sequence is."""
    places: Sequence[int]
    """Lanes with sequences, counted from the first one."""
    tokens: int
    """New tokens of each sequence; the others are padding."""


class PartResult(NamedTuple):
    """What a part of a graph computes. R rows of logits, T = B*N tokens."""

    stream: Array | None
    """[T, H]: the residual stream for the next part; None: this is the last one."""
    logits: Array
    """float32 [R, V]; empty unless this is the last part."""
    hidden: Array
    """float32 [T, H], last hidden states; empty unless this is the last part."""
