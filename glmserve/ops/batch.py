"""One step's sequences as flat arrays on the host, from which attention and models work.

T tokens, B sequences, O output rows. Sequences with one new token (decodes) come first, longest
context first, so that attention can take them in contiguous runs of similar length. Sequences with
several new tokens (prefill chunks) follow in the order of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens of all sequences, one sequence after the other."""

    input_ids: Int64Array
    """[T]"""
    positions: Int64Array
    """[T]: index of the token within its sequence."""
    slot_mapping: Int64Array
    """[T]: cache slot of the token, block_id * block_size + offset."""
    last_visible: Int64Array
    """[T]: position of the last token that it attends to. This is the token itself, except in a
    context that is read in both directions (see PromptLayout)."""
    query_start: Int64Array
    """[B + 1]: index of each sequence's first token; then T."""
    context_lens: Int64Array
    """[B]: tokens of the sequence in the cache after this step."""
    block_tables: Int64Array
    """[B, blocks of the longest sequence]: block ids; 0 behind a sequence's own."""
    block_size: int
    num_decodes: int
    output_rows: Int64Array
    """[O]: tokens of which the last hidden states are needed. In the order of the step: the tokens
    with a SamplingInput, then all tokens of the sequences that are scored or pooled."""

    rotary_positions: Int64Array | None = None
    """[2, T]: see PromptLayout; or [T]. None: the rotary positions are `positions`."""
    prefixes: Int64Array | None = None
    """[B, 2]: first slot and number of slots of each sequence's prefix, counted among the slots
    behind the blocks. None: all have the prefix of the attention backend, if it has one."""
    adapter_slots: Int64Array | None = None
    """[T]: slot of the token's adapter, or NO_SLOT. None: no token has an adapter."""
    placeholders: tuple[tuple[int, int], ...] = ()
    """(row, request id) of tokens that the step before chooses. Their input_ids are
    PLACEHOLDER_TOKEN_ID."""

    def slots(self, first: int, last: int, length: int) -> Int64Array:
        """Cache slots of positions 0..length-1 of sequences first..last-1: [last-first, length]."""
        num_blocks = -(-length // self.block_size)
        bases = self.block_tables[first:last, :num_blocks, None] * self.block_size
        slots: Int64Array = bases + np.arange(self.block_size)
        return slots.reshape(last - first, -1)[:, :length]
