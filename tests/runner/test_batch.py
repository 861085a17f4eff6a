"""StepInput to flat arrays."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.ops.batch import Batch
from glmserve.runner.batch import batch_of_any, batch_of_decodes, build_batch


def sequence(ids: list[int], start: int, blocks: list[int], *, sampled: bool) -> ScheduledSequence:
    table = np.array(blocks, dtype=np.int32).tobytes()
    return ScheduledSequence(0, ids, start, table, SamplingInput() if sampled else None)


def test_decodes_come_first_longest_first() -> None:
    step = StepInput(
        1,
        [
            sequence([10, 11, 12], 2, [5, 3], sampled=False),
            sequence([20], 1, [7], sampled=True),
            sequence([30], 6, [9, 2], sampled=True),
            sequence([40, 41], 0, [1, 0], sampled=True),
        ],
    )
    batch = build_batch(step, block_size=4)
    assert batch.input_ids.tolist() == [30, 20, 10, 11, 12, 40, 41]
    assert batch.positions.tolist() == [6, 1, 2, 3, 4, 0, 1]
    assert batch.slot_mapping.tolist() == [2 * 4 + 2, 7 * 4 + 1, 22, 23, 12, 4, 5]
    assert batch.query_start.tolist() == [0, 1, 2, 5, 7]
    assert batch.context_lens.tolist() == [7, 2, 5, 2]
    assert batch.num_decodes == 2
    assert batch.last_visible.tolist() == batch.positions.tolist()
    assert batch.rotary_positions is None
    assert batch.output_rows.tolist() == [1, 0, 6]  # in the order of the step
    assert batch.slots(0, 2, 6).tolist() == [[36, 37, 38, 39, 8, 9], [28, 29, 30, 31, 0, 1]]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-2, 9)), min_size=1, max_size=9))
def test_steps_of_decodes_alone_are_as_any(contexts: list[tuple[int, int]]) -> None:
    """Contexts of equal length too, and tokens that the step before chooses."""
    sequences = [
        msgspec.structs.replace(
            sequence([token_id], start, [7 * i + j for j in range(start // 4 + 1)], sampled=True),
            request_id=i,
        )
        for i, (start, token_id) in enumerate(contexts)
    ]
    step = StepInput(1, sequences)
    quick, general = batch_of_decodes(sequences, 4), batch_of_any(step, 4)
    for field in fields(Batch):
        ours, theirs = getattr(quick, field.name), getattr(general, field.name)
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype


def test_contexts_are_read_in_both_directions() -> None:
    """ChatGLM-6B's positions: in the context, and from <sop> on."""
    layouts = [PromptLayout(3, 1), PromptLayout(4, 3)]
    sequences = [sequence([1, 2, 3, 4, 5], 0, [0, 1], sampled=True)]
    sequences += [sequence([6], 6, [2, 3], sampled=True)]
    step = StepInput(
        1,
        [
            msgspec.structs.replace(s, layout=layout)
            for s, layout in zip(sequences, layouts, strict=True)
        ],
    )
    batch = build_batch(step, block_size=4)
    assert batch.input_ids.tolist() == [6, 1, 2, 3, 4, 5]
    assert batch.positions.tolist() == [6, 0, 1, 2, 3, 4]
    assert batch.last_visible.tolist() == [6, 2, 2, 2, 3, 4]
    assert batch.rotary_positions is not None
    assert batch.rotary_positions.tolist() == [[3, 0, 1, 2, 1, 1], [3, 0, 0, 0, 1, 2]]


def test_rows_of_all_places_are_output() -> None:
    """A prompt and a decode with two drafts, before a decode that has none."""
    drafted = msgspec.structs.replace(
        sequence([20, 21, 22], 5, [7, 8], sampled=True), drafts=[SamplingInput()] * 2
    )
    step = StepInput(
        1,
        [
            sequence([10, 11], 0, [5], sampled=True),
            drafted,
            sequence([30], 6, [9, 2], sampled=True),
        ],
    )
    batch = build_batch(step, block_size=4)
    assert batch.input_ids[batch.output_rows].tolist() == [11, 20, 21, 22, 30]


@given(
    lengths=st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 20), st.booleans()), min_size=1, max_size=10
    ),
    block_size=st.integers(1, 16),
)
def test_every_token_gets_its_own_slot(
    lengths: list[tuple[int, int, bool]], block_size: int
) -> None:
    next_block, sequences, expected = 0, [], {}
    for i, (start, count, sampled) in enumerate(lengths):
        needed = -(-(start + count) // block_size)
        blocks = list(range(next_block, next_block + needed))[::-1]
        next_block += needed
        ids = [1000 * i + j for j in range(count)]
        sequences.append(sequence(ids, start, blocks, sampled=sampled))
        for j, token in enumerate(ids):
            block, offset = divmod(start + j, block_size)
            expected[token] = (start + j, blocks[block] * block_size + offset)
    batch = build_batch(StepInput(0, sequences), block_size)
    got = zip(batch.positions.tolist(), batch.slot_mapping.tolist(), strict=True)
    assert dict(zip(batch.input_ids.tolist(), got, strict=True)) == expected
    last_tokens = [s.token_ids[-1] for s in sequences if s.sampling is not None]
    assert batch.input_ids[batch.output_rows].tolist() == last_tokens
