from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.structure.json_text import MAX_DIGITS, JsonGuard, JsonText

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


def push(data: bytes, cuts: list[int] | None = None) -> bool:
    text = JsonText()
    places = sorted({cut % (len(data) + 1) for cut in cuts or []})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    return False not in [text.push(piece) for piece in pieces]


@given(VALUES, st.sampled_from([None, 2]), st.lists(st.integers(0, 1000)))
def test_ordinary_json_passes(value: Any, indent: int | None, cuts: list[int]) -> None:
    assert push(json.dumps(value, indent=indent, ensure_ascii=False).encode(), cuts)


@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1), st.lists(st.integers(0, 1000)))
def test_a_repeated_name_is_seen(value: dict[str, Any], cuts: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    name = json.dumps(next(iter(value)), ensure_ascii=False)
    for repeated in (f"{text[:-1]}, {name}: 1}}", f'[{{"x": {text[:-1]},{name}:[]}}}}]'):
        assert not push(repeated.encode(), cuts)


def test_names_may_come_again_elsewhere() -> None:
    assert push(b'{"a": {"a": "a", "b": ["a", "a"]}, "b": {"a": 1}}')


def test_an_exponent_is_seen() -> None:
    assert not push(b"[1, 2e5]")
    assert not push(b"-0.5E+1")
    assert push(b'[true, false, "1e5", {"2e": 1}]')


def test_copies_are_independent() -> None:
    text = JsonText()
    text.push(b'{"a": 1, ')
    assert not text.copy().push(b'"a"')
    assert text.copy().push(b'"b"')
    assert text.push(b'"b"')


def bits(*token_ids: int) -> bytes:
    return sum(1 << token_id for token_id in token_ids).to_bytes(2, "little")


def test_guard_takes_out_only_what_repeats() -> None:
    tokens = [b'"', b'":', b'b"', b"b", b'", "a":', b'c", "a"', b'", "b":', b"x"]
    text = JsonText()
    text.push(b'{"a": 1, "a')
    assert JsonGuard(tokens).restrict(bits(*range(8)), text) == bits(2, 3, 7)
    text.push(b'b": "')
    assert JsonGuard(tokens).restrict(bits(*range(8)), text) == bits(0, 1, 2, 3, 6, 7)


def test_guard_keeps_a_mask_that_would_become_empty() -> None:
    text = JsonText()
    text.push(b'{"a": 1, "a')
    assert JsonGuard([b'"']).restrict(bits(0), text) == bits(0)


def test_guard_ends_long_numbers() -> None:
    text = JsonText()
    text.push(b"1" * MAX_DIGITS)
    assert JsonGuard([b"1", b".", b",", b"23"]).restrict(bits(0, 1, 2, 3), text) == bits(1, 2)
