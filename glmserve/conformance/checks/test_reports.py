"""What a step reports beside its tokens: log-probabilities and sums of hidden states."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from glmserve.conformance.driver import Driver, Piece, Result
from glmserve.conformance.kit import REPORTING, Kit, random_tokens
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import Runner, SamplingInput, ScoreInput


def test_nothing_is_reported_unasked(runner: Runner) -> None:
    driver = Driver(runner)
    text = driver.add(random_tokens(runner, "base", 9, seed=1))
    (result,) = driver.compute([Piece(text, 9, SamplingInput())])
    assert result.logprobs is None
    assert result.token_id is not None


def test_log_probabilities_are_the_model_s_own(kit: Kit, runner: Runner) -> None:
    """Temperature and biases change the choice, and not the report."""
    driver = Driver(runner)
    tokens = random_tokens(runner, "base", 15, seed=2)
    row = kit.rows("base", tokens)[-1]
    text = driver.add(tokens)
    sampling = Sampling(temperature=5.0, logit_bias={3: 4.0})
    rule = SamplingInput(noise_key=4, sampling=sampling, top_logprobs=3)
    (result,) = driver.compute([Piece(text, 15, rule)])
    assert result.token_id is not None
    kit.check_row(runner, result.logprobs, row, result.token_id)


def test_some_rows_report_and_others_do_not(kit: Kit, runner: Runner) -> None:
    driver = Driver(runner)
    texts = [driver.add(random_tokens(runner, "base", 8, seed=i)) for i in range(4)]
    rules = [REPORTING, SamplingInput(), SamplingInput(top_logprobs=0), SamplingInput()]
    results = driver.compute(
        [Piece(text, 8, rule) for text, rule in zip(texts, rules, strict=True)]
    )
    assert [r.logprobs is None for r in results] == [False, True, False, True]
    for text, result in zip(texts, results, strict=True):
        if result.logprobs is not None and result.token_id is not None:
            row = kit.rows("base", text.tokens)[-1]
            kit.check_row(runner, result.logprobs, row, result.token_id)


def test_given_ids_are_reported(kit: Kit, runner: Runner) -> None:
    """Each row reports its own ids, in their order, after its most likely ones."""
    driver = Driver(runner)
    texts = [driver.add(random_tokens(runner, "base", 8, seed=i)) for i in range(4)]
    rules = [
        SamplingInput(top_logprobs=0, logprob_token_ids=(7, 3, 40)),
        REPORTING,
        SamplingInput(),
        SamplingInput(top_logprobs=2, logprob_token_ids=(5,)),
    ]
    pieces = [Piece(text, 8, rule) for text, rule in zip(texts, rules, strict=True)]
    for text, rule, result in zip(texts, rules, driver.compute(pieces), strict=True):
        if rule.top_logprobs is None:
            assert result.logprobs is None
            continue
        assert result.logprobs is not None, "no log-probabilities were reported"
        ids = result.logprobs.top_ids
        assert tuple(ids[rule.top_logprobs :]) == rule.logprob_token_ids
        row = kit.rows("base", text.tokens)[-1]
        tolerance = kit.tolerance(runner)
        assert result.logprobs.top_logprobs == pytest.approx(row[ids], abs=tolerance)


@pytest.mark.parametrize("chunk", [5, 16])
def test_sums_of_hidden_states(runner: Runner, chunk: int) -> None:
    """The sums of the parts are the sum of the whole, beside a text that is not pooled."""
    driver = Driver(runner)
    tokens = random_tokens(runner, "base", 20, seed=4)
    whole, parts = driver.add(tokens), driver.add(tokens)
    other = driver.add(tokens)
    total = np.zeros(1, dtype=np.float32)
    for size in driver.sizes(20, 10_000):
        total = total + _sum(driver.compute([Piece(whole, size, pool=True)])[0])
    found = np.zeros(1, dtype=np.float32)
    for size in driver.sizes(20, chunk):
        pieces = [Piece(parts, size, pool=True), Piece(other, size)]
        found = found + _sum(driver.compute(pieces)[0])
    scale = np.abs(total).max()
    assert scale > 0
    tolerance = {"float32": 1e-3, "float16": 1e-2}.get(runner.info.dtype, 6e-2)
    np.testing.assert_allclose(found, total, atol=tolerance * scale)


def _sum(result: Result) -> NDArray[np.float32]:
    assert result.pooled is not None
    return result.pooled


def test_a_score_beside_a_choice(kit: Kit, runner: Runner) -> None:
    """The last chunk of a prompt is scored, and its next token chosen."""
    driver = Driver(runner)
    tokens = random_tokens(runner, "base", 14, seed=6)
    rows = kit.rows("base", tokens)
    text = driver.add(tokens)
    (result,) = driver.compute([Piece(text, 14, REPORTING, ScoreInput(tokens[1:], 1))])
    kit.check_choice(runner, result.token_id, result.logprobs, rows[-1])
    assert len(result.scores) == 13
    for position, report in enumerate(result.scores):
        kit.check_row(runner, report, rows[position], tokens[position + 1])
