"""Steps planned ahead, and drafts: only for devices that support them."""

from __future__ import annotations

import pytest

from glmserve.conformance.driver import Driver, Piece, Text, generate, run_step
from glmserve.conformance.kit import random_tokens
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    PendingOutput,
    Runner,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
)


def rule(text: Text) -> SamplingInput:
    """Sampled, so that a wrong token is noticed at once; the key depends on the position."""
    return SamplingInput(noise_key=len(text.tokens), sampling=Sampling(temperature=0.8))


def expected(runner: Runner, count: int, num_texts: int = 3) -> list[list[int]]:
    """The texts of single steps."""
    driver = Driver(runner)
    texts = [driver.add(random_tokens(runner, "base", 9 + i, seed=i), 20) for i in range(num_texts)]
    return generate(driver, texts, count, 10_000, rule)


def wait(output: StepOutput | PendingOutput) -> StepOutput:
    return output if isinstance(output, StepOutput) else output()


def test_placeholders(runner: Runner) -> None:
    """Each step is launched before the output of the one before it is read."""
    limits = runner.info.limits
    if not limits.resolves_placeholders:
        pytest.skip("this device is not planned ahead")
    driver = Driver(runner)
    texts = [driver.add(random_tokens(runner, "base", 9 + i, seed=i), 20) for i in range(3)]
    prompts = StepInput(
        0, [Piece(text, len(text.tokens), rule(text)).scheduled() for text in texts]
    )
    pending = [runner.execute(prompts)]
    found: list[list[int]] = [[] for _ in texts]
    for number in range(1, 7):
        sequences = [
            ScheduledSequence(
                text.request_id,
                [PLACEHOLDER_TOKEN_ID],
                len(text.tokens) + number - 1,
                text.block_table,
                SamplingInput(
                    noise_key=len(text.tokens) + number, sampling=Sampling(temperature=0.8)
                ),
            )
            for text in texts
        ]
        pending.append(runner.execute(StepInput(number, sequences)))
        for tokens, token in zip(found, wait(pending.pop(0)).token_ids, strict=True):
            tokens.append(token)
    for tokens, token in zip(found, wait(pending.pop(0)).token_ids, strict=True):
        tokens.append(token)
    assert found == expected(runner, 7)


@pytest.mark.parametrize("error_every", [2, 3, 100])
def test_drafts(runner: Runner, error_every: int) -> None:
    """Right drafts give the tokens of single steps; what wrong ones wrote is overwritten."""
    if not runner.info.limits.max_drafts:
        pytest.skip("this device takes no drafts")
    count = 12
    (right,) = expected(runner, count, 1)
    driver = Driver(runner)
    text = driver.add(random_tokens(runner, "base", 9, seed=0), 40)
    found = generate(driver, [text], 1, 10_000, rule)[0]
    while len(found) < count:
        guesses = right[len(found) : len(found) + min(3, runner.info.limits.max_drafts)]
        drafts = [
            (t + 1) % 100 if (len(found) + i) % error_every == 1 else t
            for i, t in enumerate(guesses)
        ]
        rules = [
            SamplingInput(noise_key=len(text.tokens) + i, sampling=Sampling(temperature=0.8))
            for i in range(len(drafts) + 1)
        ]
        new = [text.tokens[-1], *drafts]
        sequence = ScheduledSequence(
            text.request_id, new, len(text.tokens) - 1, text.block_table, rules[0], drafts=rules[1:]
        )
        chosen = run_step(runner, StepInput(1, [sequence])).token_ids
        kept = 1
        while kept <= len(drafts) and drafts[kept - 1] == chosen[kept - 1]:
            kept += 1
        text.tokens += chosen[:kept]
        found += chosen[:kept]
    assert found[:count] == right
