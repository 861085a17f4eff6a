"""Incremental text equals whole text, whatever ids come and however they are grouped."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text import IncrementalDetokenizer, Tokenizer, load_tokenizer

KINDS = ["small_sentencepiece", "small_tiktoken"]


def _in_groups(tokenizer: Tokenizer, ids: list[int], cuts: list[int], skip: bool) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer, skip)
    edges = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    pieces = [detokenizer.push(ids[start:end]) for start, end in pairwise(edges)]
    return [*pieces, detokenizer.flush()]


@pytest.mark.parametrize("kind", KINDS)
@given(
    numbers=st.lists(st.integers(0, 10**6)),
    cuts=st.lists(st.integers(0, 10**6)),
    skip=st.booleans(),
)
def test_equals_whole_decode(
    kind: str, numbers: list[int], cuts: list[int], skip: bool, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = [number % tokenizer.vocab_size for number in numbers]
    assert "".join(_in_groups(tokenizer, ids, cuts, skip)) == tokenizer.decode(ids, skip)


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\ufffd")))
def test_never_half_a_character(kind: str, text: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    detokenizer = IncrementalDetokenizer(tokenizer)
    shown = ""
    for token_id in tokenizer.encode(text):
        shown += detokenizer.push([token_id])
        assert text.startswith(shown)
    assert (shown, detokenizer.flush()) == (text, "")


@pytest.fixture(
    scope="module", params=[{}, {"add_dummy_prefix": False}, {"remove_extra_whitespaces": True}]
)
def with_oracle(request: pytest.FixtureRequest, train_sentencepiece: Any) -> tuple[Tokenizer, Any]:
    """A tokenizer, and SentencePiece's own processor of the same file."""
    from sentencepiece import SentencePieceProcessor

    directory = train_sentencepiece(**request.param)
    processor = SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    return load_tokenizer(directory), processor


@given(numbers=st.lists(st.integers(0, 10**6)), blanks=st.integers(0, 3))
def test_equals_sentencepiece_decode(
    with_oracle: tuple[Tokenizer, Any], numbers: list[int], blanks: int
) -> None:
    tokenizer, processor = with_oracle
    pieces = range(3, processor.get_piece_size())  # below are <unk> <s> </s>
    blank = processor.piece_to_id("\u2581")
    ids = [blank] * blanks + [pieces[number % len(pieces)] for number in numbers]
    assert tokenizer.decode(ids) == processor.decode(ids)


def test_one_replacement_per_stray_byte(small_sentencepiece: Tokenizer) -> None:
    first_byte = 3  # <0x00>
    ids = [first_byte + byte for byte in "🚀".encode()[:3]]
    detokenizer = IncrementalDetokenizer(small_sentencepiece)
    assert [detokenizer.push([token_id]) for token_id in ids] == ["", "", ""]
    assert detokenizer.flush() == "\ufffd" * 3
    assert small_sentencepiece.decode([*ids, *small_sentencepiece.encode("fox")]).endswith(" fox")


def test_one_replacement_per_broken_character_in_tiktoken(small_tiktoken: Tokenizer) -> None:
    assert small_tiktoken.decode(list("🚀".encode()[:3])) == "\ufffd"


def test_dummy_blank_behind_special_tokens(small_sentencepiece: Tokenizer) -> None:
    ids = small_sentencepiece.encode_prompt("fox")
    assert small_sentencepiece.decode(ids) == "fox"
    assert small_sentencepiece.decode(ids, skip_special_tokens=False) == "[gMASK]sop fox"


def test_dummy_blank_may_come_alone(small_sentencepiece: Tokenizer) -> None:
    ids = small_sentencepiece.encode("\n")
    assert len(ids) == 2
    detokenizer = IncrementalDetokenizer(small_sentencepiece)
    assert [detokenizer.push([token_id]) for token_id in ids] == ["", "\n"]
