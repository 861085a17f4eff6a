"""Every kind of block, at odd lengths: prompts, and tokens one by one."""

from __future__ import annotations

import pytest

from glmserve.conformance.checkpoints import VARIANTS
from glmserve.conformance.driver import Driver, Piece
from glmserve.conformance.kit import Kit, random_tokens
from glmserve.contract.step import ScoreInput


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 7, 33])
def test_a_prompt_and_six_tokens(kit: Kit, variant: str, length: int) -> None:
    runner = kit.runner(variant)
    driver = Driver(runner)
    tokens = random_tokens(runner, variant, max(length, 5) + 6, seed=length)
    first = max(length, len(tokens) // 2 + 2) if runner.info.limits.prompt_marks else length
    text = driver.add(tokens)
    sizes = [*driver.sizes(first, first, whole=first), *[1] * (len(tokens) - first)]
    kit.check_text(driver, variant, text, sizes)


@pytest.mark.parametrize("variant", ["base", "ChatGLM-6B"])
def test_log_probabilities_of_a_prompt(kit: Kit, variant: str) -> None:
    """`score`: what each token of a prompt was expected to be."""
    runner = kit.runner(variant)
    driver = Driver(runner)
    tokens = random_tokens(runner, variant, 21, seed=3)
    rows = kit.rows(variant, tokens)
    text = driver.add(tokens)
    found = []
    for size in driver.sizes(21, 8):
        after = tokens[text.computed + 1 : text.computed + 1 + size]
        (result,) = driver.compute([Piece(text, size, score=ScoreInput(after, 3))])
        found += result.scores
    assert len(found) == 20
    for position, report in enumerate(found):
        kit.check_row(runner, report, rows[position], tokens[position + 1])
