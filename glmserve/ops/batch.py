"""One step's sequences as flat arrays on the host: what Ops and models work from.

T tokens, B sequences, O output rows. Sequences with one new token (decodes) come first, longest
context first, so that attention can take them in contiguous runs of similar length; then those with
several (prefill chunks), in the order of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens of all sequences one after the other."""

    input_ids: Int64Array
    """[T]"""
    positions: Int64Array
    """[T]: index of the token within its sequence."""
    slot_mapping: Int64Array
    """[T]: cache slot of the token, block_id * block_size + offset."""
    last_visible: Int64Array
    """[T]: position of the last token that it attends to: itself, unless it is read in both
    directions with those behind it."""
    query_start: Int64Array
    """[B + 1]: where each sequence's tokens begin."""
    context_lens: Int64Array
    """[B]: tokens of the sequence in the cache after this step."""
    block_tables: Int64Array
    """[B, most blocks of any]: block ids; what is beyond a sequence's own is 0."""
    block_size: int
    num_decodes: int
    output_rows: Int64Array
    """[O]: rows whose last hidden states are wanted. In the order of the step: the rows of each
    sequence's places, then all rows of each sequence that is scored or pooled."""

    rotary_positions: Int64Array | None = None
    """[2, T]: see PromptLayout; None: `positions` are meant."""
    pending: tuple[tuple[int, int], ...] = ()
    """(row, request id) of tokens that the step before chose; their input_ids are
    PLACEHOLDER_TOKEN_ID."""

    def slots(self, first: int, last: int, length: int) -> Int64Array:
        """Cache slots of positions 0..length-1 of sequences first..last-1: [last-first, length]."""
        num_blocks = -(-length // self.block_size)
        bases = self.block_tables[first:last, :num_blocks, None] * self.block_size
        slots: Int64Array = bases + np.arange(self.block_size)
        return slots.reshape(last - first, -1)[:, :length]
