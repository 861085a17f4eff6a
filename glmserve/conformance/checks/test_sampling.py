"""How tokens are chosen: masks, penalties, biases, random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from glmserve.conformance.driver import Driver, Piece, Result
from glmserve.conformance.kit import REPORTING, Kit, random_tokens
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import Runner, SamplingInput

_LENGTH = 12


def choose(runner: Runner, *rules: SamplingInput, masks: tuple[bytes, ...] = ()) -> list[Result]:
    """What the rules choose after the same prompt, all in one batch if the device has room."""
    driver = Driver(runner)
    most = driver.room_for(_LENGTH)
    if len(rules) > most:
        return [*choose(runner, *rules[:most]), *choose(runner, *rules[most:])]
    tokens = random_tokens(runner, "base", _LENGTH, seed=77)
    texts = [driver.add(tokens) for _ in rules]
    driver.compute([Piece(text, _LENGTH - 1) for text in texts])
    pieces = [Piece(text, 1, rule) for text, rule in zip(texts, rules, strict=True)]
    return driver.compute(pieces, lambda: list(masks))


def ranking(kit: Kit, runner: Runner) -> list[int]:
    """Ids by descending probability after the prompt."""
    row = kit.rows("base", random_tokens(runner, "base", _LENGTH, seed=77))[-1]
    best: list[int] = np.argsort(-row, kind="stable").tolist()
    return best


def mask_of(*ids: int) -> bytes:
    bits = np.zeros(160, dtype=np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def tokens_of(results: list[Result]) -> list[int | None]:
    return [result.token_id for result in results]


def test_masks_hold_for_their_own_rows(kit: Kit, runner: Runner) -> None:
    best = ranking(kit, runner)
    constrained = SamplingInput(constrained=True)
    free = SamplingInput()
    drawn = SamplingInput(noise_key=1, constrained=True, sampling=Sampling(temperature=2.0))
    if runner.info.limits.max_sequences < 4 or Driver(runner).room_for(_LENGTH) < 4:
        pytest.skip("a step has less than four sequences")
    masks = (mask_of(best[30], best[90]), mask_of(best[40]), b"")
    results = choose(runner, free, constrained, drawn, constrained, masks=masks)
    assert tokens_of(results) == [best[0], best[30], best[40], best[0]]


def test_a_short_mask_allows_nothing_beyond_its_end(runner: Runner) -> None:
    (result,) = choose(runner, SamplingInput(constrained=True), masks=(b"\xff",))
    assert result.token_id is not None
    assert result.token_id < 8


def test_banned_ids(kit: Kit, runner: Runner) -> None:
    best = ranking(kit, runner)
    (result,) = choose(runner, SamplingInput(banned=(best[0], best[1], 10_000)))
    assert result.token_id in best[2:4]


def test_biases(kit: Kit, runner: Runner) -> None:
    best = ranking(kit, runner)
    wanted = SamplingInput(sampling=Sampling(logit_bias={best[50]: 100.0}))
    unwanted = SamplingInput(sampling=Sampling(logit_bias={best[0]: -100.0}))
    first, second = choose(runner, wanted, unwanted)
    assert first.token_id == best[50]
    assert second.token_id in best[1:3]


@pytest.mark.parametrize(
    "sampling",
    [Sampling(repetition_penalty=10.0), Sampling(presence_penalty=2.0, frequency_penalty=2.0)],
)
def test_penalties(kit: Kit, runner: Runner, sampling: Sampling) -> None:
    """The most likely token occurred so often that another is chosen."""
    best = ranking(kit, runner)[0]
    history = np.full(20, best, dtype=np.int32).tobytes()
    rule = SamplingInput(sampling=sampling, history=history, prompt_length=2)
    row = kit.rows("base", random_tokens(runner, "base", _LENGTH, seed=77))[-1]
    if sampling.repetition_penalty != 1.0 and row.max() <= 0:
        rule = SamplingInput(sampling=sampling, history=history, prompt_length=0)
    plain, penalised = choose(runner, SamplingInput(), rule)
    assert plain.token_id == best
    assert penalised.token_id != best


def test_a_key_gives_the_same_token_whatever_else_is_chosen(runner: Runner) -> None:
    """In another place of the batch, beside other rules."""
    hot = [SamplingInput(noise_key=k, sampling=Sampling(temperature=1.5)) for k in range(6)]
    together = tokens_of(choose(runner, *hot))
    turned = tokens_of(choose(runner, SamplingInput(), *reversed(hot), REPORTING))
    assert turned[1:7] == together[::-1]
    assert [tokens_of(choose(runner, rule))[0] for rule in hot] == together
    assert len(set(together)) > 1, "keys change nothing"


def test_top_k_and_top_p(kit: Kit, runner: Runner) -> None:
    best = ranking(kit, runner)
    rules = [
        SamplingInput(noise_key=k, sampling=Sampling(temperature=3.0, top_k=4)) for k in range(8)
    ]
    assert set(tokens_of(choose(runner, *rules))) <= set(best[:6])
    sure = [
        SamplingInput(noise_key=k, sampling=Sampling(temperature=1.0, top_p=1e-6)) for k in range(4)
    ]
    assert set(tokens_of(choose(runner, *sure))) <= set(best[:2])
