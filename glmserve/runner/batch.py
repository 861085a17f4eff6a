"""Makes the Batch of a StepInput."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.step import PLACEHOLDER_TOKEN_ID, ScheduledSequence, StepInput
from glmserve.ops.adapters.rows import NO_SLOT
from glmserve.ops.batch import Batch, Int64Array


class PrefixSpan(NamedTuple):
    """Where the keys and values of an adapter's prefix are."""

    first: int
    """Slot, counted among those behind the blocks."""
    length: int
    """Slots; 0: the adapter has no prefix."""
    shift: int
    """By how much the rotary positions of a sequence's tokens are greater behind it."""


NO_PREFIX = PrefixSpan(0, 0, 0)

NO_SLOTS: Mapping[int, int] = {NO_ADAPTER: NO_SLOT}
"""Slots by adapter id where there are no adapters."""


def build_batch(
    step: StepInput,
    block_size: int,
    adapter_slots: Mapping[int, int] = NO_SLOTS,
    prefixes: Mapping[int, PrefixSpan] = {},
) -> Batch:
    """The tokens of all sequences of a step, one sequence after the other.

    Python time is spent per sequence, not per token; only token ids are copied one by one.

    Args:
        adapter_slots: adapter id to slot; NO_ADAPTER to NO_SLOT.
        prefixes: by adapter id; the others have none.

    Raises:
        KeyError: a sequence has an adapter that is not loaded.
    """
    if not prefixes and all(map(_is_plain_decode, step.sequences)):
        return batch_of_decodes(step.sequences, block_size)
    return batch_of_any(step, block_size, adapter_slots, prefixes)


def batch_of_decodes(sequences: list[ScheduledSequence], block_size: int) -> Batch:
    """`batch_of_any` for sequences of one token, without adapters and layouts.

    Between two steps on a CPU, caches are full of weights: every call costs several times its
    usual time, so the most frequent kind of step has as few calls as can be.
    """
    rows = np.arange(len(sequences) + 1)
    order = sorted(rows.tolist()[:-1], key=lambda i: -sequences[i].start)
    ordered = [sequences[i] for i in order]
    token_ids = [s.token_ids[0] for s in ordered]
    positions = np.array([s.start for s in ordered], dtype=np.int64)
    block_tables = _block_tables(ordered)
    blocks, offsets = np.divmod(positions, block_size)
    output_rows = np.empty_like(positions)
    output_rows[order] = rows[:-1]
    return Batch(
        input_ids=np.array(token_ids, dtype=np.int64),
        positions=positions,
        slot_mapping=block_tables[rows[:-1], blocks] * block_size + offsets,
        last_visible=positions,
        query_start=rows,
        context_lens=positions + 1,
        block_tables=block_tables,
        block_size=block_size,
        num_decodes=len(sequences),
        output_rows=output_rows,
        placeholders=tuple(
            (row, ordered[row].request_id)
            for row, token_id in enumerate(token_ids)
            if token_id == PLACEHOLDER_TOKEN_ID
        ),
    )


def _is_plain_decode(sequence: ScheduledSequence) -> bool:
    return (
        len(sequence.token_ids) == 1
        and sequence.sampling is not None
        and sequence.adapter_id == NO_ADAPTER
        and sequence.layout is None
        and not sequence.is_read_whole
    )


def batch_of_any(
    step: StepInput,
    block_size: int,
    adapter_slots: Mapping[int, int] = NO_SLOTS,
    prefixes: Mapping[int, PrefixSpan] = {},
) -> Batch:
    """See `build_batch`."""
    order = _order(step.sequences)
    sequences = [step.sequences[i] for i in order]
    counts = np.array([len(s.token_ids) for s in sequences], dtype=np.int64)
    starts = np.array([s.start for s in sequences], dtype=np.int64)
    query_start = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum(counts, out=query_start[1:])
    owners = np.repeat(np.arange(len(sequences)), counts)  # [T]: index of a token's sequence
    positions = np.arange(query_start[-1]) + (starts - query_start[:-1])[owners]
    block_tables = _block_tables(sequences)
    input_ids = np.array([t for s in sequences for t in s.token_ids], dtype=np.int64)
    blocks, offsets = np.divmod(positions, block_size)
    last_visible, rotary_positions = _lay_out(sequences, positions, owners)
    spans = [prefixes.get(s.adapter_id, NO_PREFIX) for s in sequences] if prefixes else []
    if any(span.shift for span in spans):
        rotary_positions = positions + np.array([span.shift for span in spans])[owners]
    return Batch(
        input_ids=input_ids,
        positions=positions,
        slot_mapping=block_tables[owners, blocks] * block_size + offsets,
        last_visible=last_visible,
        query_start=query_start,
        context_lens=starts + counts,
        block_tables=block_tables,
        block_size=block_size,
        num_decodes=int((counts == 1).sum()),
        output_rows=_output_rows(step.sequences, order, query_start),
        rotary_positions=rotary_positions,
        prefixes=np.array([span[:2] for span in spans]) if prefixes else None,
        adapter_slots=_adapter_slots(sequences, owners, adapter_slots),
        placeholders=tuple(
            (row, sequences[owners[row]].request_id)
            for row in np.flatnonzero(input_ids == PLACEHOLDER_TOKEN_ID).tolist()
        ),
    )


def _order(sequences: list[ScheduledSequence]) -> list[int]:
    """Indices of decodes by descending context length, then of the others in their order."""
    decodes = [i for i, s in enumerate(sequences) if len(s.token_ids) == 1]
    decodes.sort(key=lambda i: -sequences[i].start)
    if len(decodes) == len(sequences):
        return decodes
    return decodes + [i for i, s in enumerate(sequences) if len(s.token_ids) != 1]


def _block_tables(sequences: list[ScheduledSequence]) -> Int64Array:
    """[B, blocks of the longest sequence], padded with 0."""
    tables = [s.block_table for s in sequences]
    width = max(map(len, tables))
    padded = b"".join([table.ljust(width, b"\0") for table in tables])
    found = np.frombuffer(padded, dtype=np.int32).reshape(len(tables), -1)
    return found.astype(np.int64)


def _adapter_slots(
    sequences: list[ScheduledSequence], owners: Int64Array, slots: Mapping[int, int]
) -> Int64Array | None:
    """`adapter_slots` of Batch."""
    own = [slots[s.adapter_id] for s in sequences]
    if all(slot == NO_SLOT for slot in own):
        return None
    found: Int64Array = np.array(own, dtype=np.int64)[owners]
    return found


def _lay_out(
    sequences: list[ScheduledSequence], positions: Int64Array, owners: Int64Array
) -> tuple[Int64Array, Int64Array | None]:
    """`last_visible` and `rotary_positions` of Batch. Either all sequences have a layout or
    none."""
    layouts = [s.layout for s in sequences if s.layout is not None]
    if not layouts:
        return positions, None
    lengths = np.array([layout.context_length for layout in layouts])[owners]
    masks = np.array([layout.mask_position for layout in layouts])[owners]
    behind = positions - lengths + 1  # 1 at <sop>
    in_context = behind <= 0
    rotary = np.stack((np.where(in_context, positions, masks), np.maximum(behind, 0)))
    return np.where(in_context, lengths - 1, positions), rotary


def _output_rows(
    sequences: list[ScheduledSequence], order: list[int], query_start: Int64Array
) -> Int64Array:
    """The rows with a SamplingInput, then all rows of sequences that are scored or pooled."""
    first_rows, end_rows = np.empty((2, len(order)), dtype=np.int64)
    first_rows[order], end_rows[order] = query_start[:-1], query_start[1:]
    num_sampled = np.array([0 if s.sampling is None else 1 + len(s.drafts) for s in sequences])
    ends = np.cumsum(num_sampled)
    sampled: Int64Array = np.arange(ends[-1]) + np.repeat(end_rows - ends, num_sampled)
    whole = [i for i, s in enumerate(sequences) if s.score is not None or s.pool]
    if not whole:
        return sampled
    return np.concatenate([sampled, *(np.arange(first_rows[i], end_rows[i]) for i in whole)])
