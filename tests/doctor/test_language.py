"""Which language is spoken, that all is said in it, and that columns stand below each other."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.cli.doctor import messages
from glmserve.cli.doctor.language import Language, Message, choose_language
from glmserve.cli.doctor.table import align, width

MESSAGES = {name: m for name, m in vars(messages).items() if isinstance(m, Message)}
SAME_IN_BOTH = {"STORED_PLAIN", "GPU"}
"""Nothing but values and names."""


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_a_translation_with_the_same_values(name: str) -> None:
    message = MESSAGES[name]
    assert _fields(message.english) == _fields(message.chinese)
    assert (message.english == message.chinese) == (name in SAME_IN_BOTH)
    if name not in SAME_IN_BOTH:
        assert re.search("[\u4e00-\u9fff]", message.chinese)
    assert message.english.isascii()


def test_chinese_text_has_chinese_punctuation() -> None:
    for message in MESSAGES.values():
        assert not re.search("[\u4e00-\u9fff][,;:()]", message.chinese), message.chinese


def _fields(text: str) -> set[tuple[str, str]]:
    """Names of values, and how they are formatted."""
    return {(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize(
    ("environment", "encoding", "language"),
    [
        ({}, "utf-8", Language.ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, "utf-8", Language.CHINESE),
        ({"LANG": "zh_TW"}, "utf-8", Language.CHINESE),
        ({"LANG": "zh_CN.GBK"}, "gbk", Language.CHINESE),
        ({"LC_MESSAGES": "zh_CN", "LANG": "en_US.UTF-8"}, "utf-8", Language.CHINESE),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "utf-8", Language.ENGLISH),
        ({"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, "utf-8", Language.CHINESE),
        ({"LANG": "zh_CN.UTF-8"}, "ascii", Language.ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, "latin-1", Language.ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, "no such encoding", Language.ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, None, Language.ENGLISH),
        ({"LANG": "de_DE.UTF-8"}, "utf-8", Language.ENGLISH),
    ],
)
def test_the_environment_and_the_terminal_choose(
    environment: dict[str, str], encoding: str | None, language: Language
) -> None:
    assert choose_language(environment, encoding) is language


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("abc", 3),
        ("内存", 4),
        ("KV 缓存", 7),
        ("，", 2),
        ("e\u0301", 1),
        ("ﬀ", 1),
        ("한", 2),
    ],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


CELLS = st.text("ab ，中内é", max_size=6)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=5),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    )
)
def test_columns_are_aligned(table: tuple[list[list[str]], list[bool]]) -> None:
    """Every cell begins, or ends, at the same column of the terminal as those above it."""
    rows, right = table
    widths = [max(width(row[i]) for row in rows) for i in range(len(right))]
    for row, line in zip(rows, align(rows, right), strict=True):
        rest = line
        for cell, columns, is_right in zip(row, widths, right, strict=True):
            padding = " " * (columns - width(cell))
            padded = padding + cell if is_right else cell + padding
            assert rest.startswith(padded.rstrip()) or not rest
            rest = rest[len(padded) + 2 :]
