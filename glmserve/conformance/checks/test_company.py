"""A text does not depend on the texts beside it, before it, or in its blocks before it."""

from __future__ import annotations

import pytest

from glmserve.conformance.checkpoints import NAN_TOKEN
from glmserve.conformance.driver import Driver, Piece
from glmserve.conformance.kit import REPORTING, Kit, random_tokens
from glmserve.contract.step import INVALID_TOKEN_ID, Runner


@pytest.mark.parametrize("variant", ["base", "three heads per group", "ChatGLM-6B"])
def test_texts_side_by_side(kit: Kit, variant: str) -> None:
    """Prompts of different lengths, then three tokens each, in full batches."""
    runner = kit.runner(variant)
    driver = Driver(runner)
    lengths = [1, 40, 9, 17, 5, 64, 30, 3]
    lengths = lengths[: min(runner.info.limits.max_sequences, driver.room_for(80))]
    lengths = [max(n, 4) for n in lengths] if runner.info.limits.prompt_marks else lengths
    texts = [
        driver.add(
            [
                *random_tokens(runner, variant, n, seed=n),
                *[(5 * n + i) % 90 + 10 for i in range(3)],
            ]
        )
        for n in lengths
    ]
    rows = [kit.rows(variant, text.tokens) for text in texts]
    for step in range(4):
        pieces = [
            Piece(text, 1 if step else n, REPORTING) for text, n in zip(texts, lengths, strict=True)
        ]
        for text, row, result in zip(texts, rows, driver.compute(pieces), strict=True):
            kit.check_choice(runner, result.token_id, result.logprobs, row[text.computed - 1])


def test_prompts_join_texts_that_decode(kit: Kit, runner: Runner) -> None:
    """A batch that changes: texts end, others take their places and their blocks."""
    driver = Driver(runner)
    most = min(4, runner.info.limits.max_sequences, driver.room_for(80))
    running = [driver.add(random_tokens(runner, "base", 12 + i, seed=i)) for i in range(most)]
    for turn in range(6):
        sizes = [5 if text.computed < 5 else 1 for text in running]
        pieces = [Piece(t, n, REPORTING) for t, n in zip(running, sizes, strict=True)]
        for text, result in zip(running, driver.compute(pieces), strict=True):
            row = kit.rows("base", text.tokens)[text.computed - 1]
            kit.check_choice(runner, result.token_id, result.logprobs, row)
        leaving = running.pop(turn % most)
        driver.release(leaving)
        running.append(driver.add(random_tokens(runner, "base", 20 + turn, seed=50 + turn)))


def test_blocks_that_held_nan(kit: Kit) -> None:
    """A text with a token that is NaN ends with INVALID_TOKEN_ID. Texts beside it, and texts in its
    blocks after it, are not touched."""
    runner = kit.runner("nan")
    driver = Driver(runner)
    length = 3 * runner.info.limits.block_size if runner.info.limits.block_size < 64 else 40
    spoilt = driver.add([*random_tokens(runner, "nan", length, seed=1), NAN_TOKEN, NAN_TOKEN])
    beside = driver.add(random_tokens(runner, "nan", 18, seed=2))
    for size in driver.sizes(len(spoilt.tokens), 16):
        (bad,) = driver.compute([Piece(spoilt, size, REPORTING)])
    assert bad.token_id == INVALID_TOKEN_ID
    if runner.info.limits.max_sequences > 1:
        spoilt.computed -= 1
        results = driver.compute([Piece(spoilt, 1, REPORTING), Piece(beside, 18, REPORTING)])
        assert results[0].token_id == INVALID_TOKEN_ID
        row = kit.rows("nan", beside.tokens)[-1]
        kit.check_choice(runner, results[1].token_id, results[1].logprobs, row)
    driver.release(spoilt)
    for length in (2, 21, 40):
        text = driver.add(random_tokens(runner, "nan", length, seed=length))
        kit.check_text(driver, "nan", text, [*driver.sizes(length, 13)])
        driver.release(text)


def test_a_longer_text_before(kit: Kit, runner: Runner) -> None:
    """What a longer text left in the blocks is not seen."""
    driver = Driver(runner)
    for length, seed in ((90, 1), (3, 2), (50, 3), (1, 4), (17, 5)):
        text = driver.add(random_tokens(runner, "base", length, seed=seed))
        kit.check_text(driver, "base", text, [*driver.sizes(length, 64)])
        driver.release(text)
