"""Tokens to text as one request's reader sees it, however late it reads."""

from __future__ import annotations

import pytest

from glmserve.contract.step import Logprobs
from glmserve.engine import NewTokens
from glmserve.request import SamplingParams
from glmserve.text.text_assembler import TextAssembler, TextDelta, TextOptions
from support.fakes import ByteTokenizer


def read(
    text: str, at_once: int, stop: list[str], *, scored: bool = False, **fields: int
) -> tuple[list[TextDelta], TextAssembler]:
    """Assemble a text with one token per byte, taken `at_once` at a time."""
    params = SamplingParams(max_tokens=len(text), stop_token_ids=frozenset({256}), **fields)
    assembler = TextAssembler(params, ByteTokenizer(), TextOptions(tuple(stop)))
    data = list(text.encode())
    deltas = []
    for i in range(0, len(data), at_once):
        ids = data[i : i + at_once]
        logprobs = [Logprobs(float(-i), [], []) for i in ids] if scored else []
        deltas.append(assembler.push(NewTokens(ids, logprobs)))
        if assembler.stop_string is not None:
            return deltas, assembler
    rest = assembler.finish()
    return deltas + ([rest] if rest is not None else []), assembler


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
def test_what_counts_does_not_depend_on_how_late_it_is_read(at_once: int) -> None:
    deltas, assembler = read("abc STOP and more after the end", at_once, ["STOP"])
    assert "".join(delta.text for delta in deltas) == "abc "
    assert bytes(i for delta in deltas for i in delta.token_ids) == b"abc STOP"
    assert assembler.num_output_tokens == 8
    assert assembler.stop_string == "STOP"


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_held_back_text_comes_at_the_end(at_once: int) -> None:
    deltas, assembler = read("abc STO", at_once, ["STOP"])
    assert "".join(delta.text for delta in deltas) == "abc STO"
    assert assembler.num_output_tokens == 7
    assert assembler.stop_string is None


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
def test_scored_tokens_are_those_of_the_text(at_once: int) -> None:
    """Nothing of a stop string shows through them, and no token comes before its text."""
    deltas, _ = read("ab ST cd STOP more", at_once, ["STOP"], scored=True)
    text, scored = "", []
    for delta in deltas:
        text += delta.text
        scored += delta.scored
        assert len(scored) <= len(text)
    assert text == "ab ST cd "
    assert bytes(token.token_id for token in scored) == text.encode()
    assert all(token.logprobs.logprob == -token.token_id for token in scored)


def test_scored_tokens_held_back_come_at_the_end() -> None:
    deltas, _ = read("abc STO", 1, ["STOP"], scored=True)
    scored = [token.token_id for delta in deltas for token in delta.scored]
    assert bytes(scored) == b"abc STO"


@pytest.mark.parametrize("at_once", [1, 100])
def test_stop_strings_wait_for_the_least_number_of_tokens(at_once: int) -> None:
    deltas, _ = read("a.b.c.d", at_once, ["."], min_tokens=3)
    assert "".join([delta.text for delta in deltas]) == "a.b"
