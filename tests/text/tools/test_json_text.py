"""Where a JSON object ends, and what counts as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.tools.json_text import ObjectScanner, read_json, write_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    value=st.dictionaries(st.text(), values, max_size=3),
    rest=st.text(st.sampled_from('}{"] \\x')),
    indent=st.none() | st.just(2),
)
def test_an_object_ends_where_it_ends(
    value: dict[str, object], rest: str, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    assert ObjectScanner().feed(text + rest) == len(text)
    scanner = ObjectScanner()
    assert sum(scanner.feed(character) for character in text + rest) == len(text)
    assert scanner.done


def test_an_open_object_takes_everything() -> None:
    scanner = ObjectScanner()
    assert [scanner.feed(piece) for piece in ('{"a": "}', "\\", '"}', "")] == [8, 1, 2, 0]
    assert not scanner.done


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[-Infinity]", "1e999", "[" * 100_000, "9" * 5000, "{'a': 1}", "1 2"]
)
def test_no_strict_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


def test_written_as_it_reads() -> None:
    assert write_json({"城市": "😀\n"}) == '{"城市": "😀\\n"}'
    assert write_json("\ud800中") == '"\\ud800\\u4e2d"'
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Out of range"):
            write_json(value)
