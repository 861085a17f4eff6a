"""What every tokenizer must do, on small ones that need no goldens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.errors import InvalidRequestError
from glmserve.text import Tokenizer, load_tokenizer

EMOJI = ["🚀", "👍🏽", "👨‍👩‍👧‍👦", "🇨🇳", "😶‍🌫️", "é", "中", "▁", " ", "\n", "<n>"]
# "▁" is SentencePiece's own blank: text that has one decodes to a blank.
unicode_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))
mixed_text = unicode_text | st.lists(st.sampled_from(EMOJI) | unicode_text).map("".join).map(
    lambda text: text.replace("▁", "")
)


@given(text=mixed_text)
def test_sentencepiece_round_trip(small_sentencepiece: Tokenizer, text: str) -> None:
    ids = small_sentencepiece.encode(text)
    assert all(0 <= token_id < small_sentencepiece.vocab_size for token_id in ids)
    assert small_sentencepiece.decode(ids) == text


@given(text=mixed_text)
def test_tiktoken_round_trip(small_tiktoken: Tokenizer, text: str) -> None:
    assert small_tiktoken.decode(small_tiktoken.encode(text)) == text


@pytest.mark.parametrize("kind", ["small_sentencepiece", "small_tiktoken"])
def test_special_names_in_text_are_plain(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    for name in (*tokenizer.special_ids, "<|user|>", "</s>"):
        ids = tokenizer.encode(f"a{name}b")
        assert not set(ids) & set(tokenizer.special_ids.values())
        assert tokenizer.decode(ids) == f"a{name}b"


@pytest.mark.parametrize("kind", ["small_sentencepiece", "small_tiktoken"])
@pytest.mark.parametrize("text", ["\ud800", "a中\udfff", "\ud83d\ude80"])
def test_lone_surrogates_are_refused(kind: str, text: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    with pytest.raises(InvalidRequestError, match="lone surrogate U\\+D"):
        tokenizer.encode_prompt(text)


@pytest.mark.parametrize("kind", ["small_sentencepiece", "small_tiktoken"])
@pytest.mark.parametrize("past_the_end", [True, False])
def test_ids_outside_the_vocabulary_are_refused(
    kind: str, past_the_end: bool, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    token_id = tokenizer.vocab_size if past_the_end else -1
    for skip in (True, False):
        with pytest.raises(InvalidRequestError, match=f"token id {token_id} is outside"):
            tokenizer.decode([token_id], skip_special_tokens=skip)


def test_special_ids_follow_the_pieces(small_sentencepiece: Tokenizer) -> None:
    names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]
    assert [small_sentencepiece.special_ids[name] for name in names] == list(range(400, 405))
    assert small_sentencepiece.vocab_size == 405
    assert small_sentencepiece.eos_id == 2
    assert small_sentencepiece.encode_prompt("") == [401, 403]


def test_special_bytes_only_when_asked(small_sentencepiece: Tokenizer) -> None:
    gmask = small_sentencepiece.special_ids["[gMASK]"]
    assert small_sentencepiece.token_bytes(gmask) == b""
    assert small_sentencepiece.token_bytes(gmask, skip_special_tokens=False) == b"[gMASK]"


@given(text=mixed_text)
def test_token_bytes_join_to_the_text(small_sentencepiece: Tokenizer, text: str) -> None:
    ids = small_sentencepiece.encode(text)
    joined = b"".join(small_sentencepiece.token_bytes(token_id) for token_id in ids)
    # The dummy blank belongs to the first piece; only decoding a whole text takes it away.
    assert joined.decode() == (f" {text}" if text else "")


def test_no_dummy_blank_without_the_prefix(train_sentencepiece: Any) -> None:
    tokenizer = load_tokenizer(train_sentencepiece(add_dummy_prefix=False))
    assert tokenizer.decode(tokenizer.encode("  a b")) == "  a b"
    assert tokenizer.token_bytes(tokenizer.encode("fox")[0]).startswith(b"f")


def test_glm4_takes_three_digits_at_a_time(small_tiktoken: Tokenizer) -> None:
    pieces = [small_tiktoken.decode([token_id]) for token_id in small_tiktoken.encode("1231234")]
    assert pieces == ["123", "123", "4"]


def test_endless_blanks_are_refused(small_tiktoken: Tokenizer) -> None:
    assert len(small_tiktoken.encode(" " * 100_000 + "a")) > 0
    with pytest.raises(InvalidRequestError, match="run of more than 100000 blanks"):
        small_tiktoken.encode(" " * 1_000_000 + "a")


def test_unused_ids_are_never_sampled(load_golden: Any) -> None:
    tokenizer, _ = load_golden("chatglm-6b")
    assert tokenizer.never_sampled == {tokenizer.special_ids["<unused_0>"]}


@pytest.mark.parametrize("kind", ["small_sentencepiece", "small_tiktoken"])
def test_pieces_as_the_vocabulary_writes_them(kind: str, request: pytest.FixtureRequest) -> None:
    """A blank has the character of its kind of vocabulary, a special token its name."""
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    pieces = [tokenizer.piece(token_id) for token_id in tokenizer.encode("a b")]
    blank = "▁" if kind == "small_sentencepiece" else "Ġ"
    assert "".join(pieces).lstrip(blank) == f"a{blank}b"
    for name, token_id in tokenizer.special_ids.items():
        assert tokenizer.piece(token_id) == name
    with pytest.raises(InvalidRequestError, match="outside"):
        tokenizer.piece(tokenizer.vocab_size)
