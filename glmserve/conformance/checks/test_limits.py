"""The runner's limits: possible, honoured up to their last token, and as the options ask."""

from __future__ import annotations

import pytest

from glmserve.conformance.driver import Driver, Piece
from glmserve.conformance.kit import REPORTING, Kit, random_tokens
from glmserve.contract.step import Runner
from glmserve.errors import StartupError

_LONGEST = 512
"""Tokens of the texts of these checks, at most: the reference needs memory for their square."""


def test_they_are_possible(runner: Runner) -> None:
    limits = runner.info.limits
    assert limits.num_blocks >= 1
    assert limits.block_size >= 1
    assert 1 <= limits.max_context <= limits.token_capacity
    assert limits.max_sequences >= 1
    assert limits.max_step_tokens >= 1
    assert limits.max_drafts >= 0
    if limits.batch_sizes is not None:
        assert list(limits.batch_sizes) == sorted(set(limits.batch_sizes))
        assert min(limits.batch_sizes) >= 1
    if limits.mixes_prefill_and_decode:
        assert limits.max_step_tokens >= limits.max_sequences
    if not limits.chunked_prefill:
        assert limits.max_step_tokens >= limits.max_context


def test_the_facts_about_the_runner(runner: Runner) -> None:
    info = runner.info
    assert info.device
    assert info.dtype
    assert info.num_parameters > 0
    assert info.weight_bytes > 0
    assert info.kv_cache_bytes >= info.limits.token_capacity


def test_a_step_of_the_most_sequences(kit: Kit, runner: Runner) -> None:
    """Tokens one by one, of as many texts as a step may have."""
    limits = runner.info.limits
    most = min(limits.max_sequences, max(limits.batch_sizes or (limits.max_sequences,)))
    room = limits.token_capacity // limits.block_size
    driver = Driver(runner)
    texts = [
        driver.add(random_tokens(runner, "base", 6 + i % 5, seed=i)) for i in range(min(most, room))
    ]
    for text in texts:
        driver.compute([Piece(text, len(text.tokens) - 1)])
    results = driver.compute([Piece(text, 1, REPORTING) for text in texts])
    for text, result in zip(texts, results, strict=True):
        kit.check_choice(
            runner, result.token_id, result.logprobs, kit.rows("base", text.tokens)[-1]
        )


def test_a_step_of_the_most_tokens(kit: Kit, runner: Runner) -> None:
    limits = runner.info.limits
    most = min(limits.max_step_tokens, limits.max_context, _LONGEST)
    driver = Driver(runner)
    text = driver.add(random_tokens(runner, "base", most, seed=1))
    kit.check_text(driver, "base", text, [most])


def test_a_text_of_the_longest_context(kit: Kit, runner: Runner) -> None:
    most = min(runner.info.limits.max_context, _LONGEST)
    driver = Driver(runner)
    text = driver.add(random_tokens(runner, "base", most, seed=2))
    kit.check_text(driver, "base", text, [*driver.sizes(most - 2, 10_000), 1, 1])


def test_as_many_texts_as_the_cache_holds(kit: Kit, runner: Runner) -> None:
    """Every block in use: the last text is as right as the first."""
    limits = runner.info.limits
    driver = Driver(runner, seed=9)
    count = min(limits.num_blocks, 64)
    texts = [driver.add(random_tokens(runner, "base", 3, seed=i)) for i in range(count)]
    for text in texts:
        driver.compute([Piece(text, 2)])
    for text in reversed(texts):
        kit.check_text(driver, "base", text, [1])


@pytest.mark.parametrize(
    "options", [{"max_model_len": 64}, {"max_batch_size": 2}, {"kv_cache_tokens": 512}]
)
def test_options_are_honoured_or_refused(kit: Kit, options: dict[str, int]) -> None:
    try:
        runner = kit.open("base", **options)
    except StartupError as error:
        assert len(error.message) > 10, "the refusal gives no reason"
        return
    try:
        limits = runner.info.limits
        assert limits.max_context <= options.get("max_model_len", limits.max_context)
        assert limits.max_sequences <= options.get("max_batch_size", limits.max_sequences)
        tokens = options.get("kv_cache_tokens", limits.token_capacity)
        assert abs(limits.token_capacity - tokens) < limits.block_size
    finally:
        runner.close()
