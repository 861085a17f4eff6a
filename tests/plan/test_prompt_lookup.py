"""Where a text's end stood before, and what followed there."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.scheduler import text_index
from glmserve.scheduler.prompt_lookup import PromptLookup


def expected(tokens: list[int], count: int) -> list[int]:
    """The definition, place by place: of the latest places, the longest match, the latest first."""
    pairs = [p for p in range(len(tokens) - 1, 1, -1) if tokens[p - 2 : p] == tokens[-2:]]
    places = pairs[: text_index._MAX_CANDIDATES]
    if not places:
        return []

    def match_length(place: int) -> int:
        lengths = range(2, min(place, text_index.LONGEST_MATCH) + 1)
        return max(n for n in lengths if tokens[place - n : place] == tokens[-n:])

    place = max(places, key=match_length)
    text = list(tokens)
    for i in range(count):
        text.append(text[place + i])
    return text[len(tokens) :]


@given(
    before=st.just([]) | st.lists(st.integers(0, 2), max_size=20),
    tokens=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    calls=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_finds_what_the_definition_says(
    before: list[int], tokens: list[int], calls: list[tuple[int, int]]
) -> None:
    lookup, length = PromptLookup(before), 0
    for step, count in calls:
        length = min(length + step, len(tokens))
        known = tokens[:length]
        assert lookup.continuation(array("i", known), count) == expected(before + known, count)


def test_the_longer_match_wins_over_the_later() -> None:
    text = array("i", [1, 2, 3, 70, 9, 2, 3, 80, 1, 2, 3])
    assert PromptLookup().continuation(text, 2) == [70, 9]


def test_a_loop_goes_on() -> None:
    text = array("i", [9, 1, 2, 3, 1, 2, 3, 1])
    assert PromptLookup().continuation(text, 7) == [2, 3, 1, 2, 3, 1, 2]


@pytest.mark.parametrize("tokens", [[1], [1, 1], [1, 2, 3, 1], [1, 2, 2**31 - 1, 0]])
def test_nothing_to_find(tokens: list[int]) -> None:
    assert PromptLookup().continuation(array("i", tokens), 4) == []


def test_a_long_prompt_is_indexed_over_several_steps() -> None:
    text = array("i", [5, 6, 7, *range(100, 100 + 2 * text_index._MAX_INDEXED_PER_CALL), 5, 6])
    lookup = PromptLookup()
    found = [lookup.continuation(text, 1) for _ in range(4)]
    assert found == [[], [], [7], [7]]
