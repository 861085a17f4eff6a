"""Filters of a stream give what upstream's process_response gives for the whole text."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmserve.text.response_filter import (
    FilterChain,
    FullWidthPunctuation,
    ReplaceTrainingDate,
    ResponseFilter,
    StripLeading,
)

DATE = "[[训练时间]]"
fragments = st.sampled_from([*",!:;?[]中文 a\n。", "[[训练", "时间]]", DATE, "[" + DATE])
responses = st.lists(fragments)


def _streamed(response_filter: ResponseFilter, pieces: list[str]) -> str:
    return "".join(map(response_filter.push, pieces)) + response_filter.flush()


def _replace_date(text: str) -> str:
    return text.replace(DATE, "2023年")


def _full_width(text: str) -> str:
    """The substitutions of ChatGLM-6B's chat function, one mark after the other."""
    for mark, wide in zip(",!:;?", "，！：；？", strict=True):
        text = re.sub(rf"([\u4e00-\u9fff])\{mark}", rf"\1{wide}", text)
        text = re.sub(rf"\{mark}([\u4e00-\u9fff])", rf"{wide}\1", text)
    return text


@pytest.mark.parametrize(
    ("make", "whole"),
    [
        (FilterChain, str),
        (StripLeading, str.lstrip),
        (ReplaceTrainingDate, _replace_date),
        (FullWidthPunctuation, _full_width),
        (
            lambda: FilterChain((StripLeading(), ReplaceTrainingDate(), FullWidthPunctuation())),
            lambda text: _full_width(_replace_date(text.lstrip())),
        ),
    ],
    ids=["none", "strip", "date", "punctuation", "all"],
)
@given(pieces=responses)
@example(pieces=["\n", " ", "你好", ",", DATE, ",", "a"])
def test_equals_whole_text(
    make: Callable[[], ResponseFilter], whole: Callable[[str], str], pieces: list[str]
) -> None:
    text = "".join(pieces)
    assert _streamed(make(), pieces) == whole(text)
    assert _streamed(make(), list(text)) == whole(text)
    assert _streamed(make(), [text]) == whole(text)


def test_text_is_held_no_longer_than_needed() -> None:
    date = ReplaceTrainingDate()
    assert [date.push(piece) for piece in ("a[", "[训", "x")] == ["a", "", "[[训x"]
    marks = FullWidthPunctuation()
    assert [marks.push(piece) for piece in ("a,", "b", "中,", ",")] == ["a", ",b", "中，", ""]
    assert marks.flush() == ","
