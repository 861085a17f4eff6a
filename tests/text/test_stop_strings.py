"""Stop strings found in a stream are those found in the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.errors import InvalidRequestError
from glmserve.text import StopChecker

few_letters = st.text("ab\n")


def _whole_text(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The obvious way: the shortest beginning of the text that ends with a stop string."""
    for end in range(1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, None


def _could_grow(held: str, stops: list[str]) -> bool:
    return any(stop.startswith(held) and stop != held for stop in stops)


@given(
    pieces=st.lists(few_letters),
    stops=st.lists(st.text("ab\n", min_size=1), min_size=1, max_size=4),
)
def test_equals_whole_text(pieces: list[str], stops: list[str]) -> None:
    checker = StopChecker(stops)
    received, shown = "", ""
    stopped: str | None = None
    for piece in pieces:
        received += piece
        text, stopped = checker.push(piece)
        shown += text
        if stopped is not None:
            break
        held = received[len(shown) :]
        assert received.startswith(shown)
        # What is held could grow into a stop string, and nothing longer could.
        assert not held or _could_grow(held, stops)
        for longer in range(len(held) + 1, len(received) + 1):
            assert not _could_grow(received[-longer:], stops)
    shown += checker.flush()
    assert (shown, stopped) == _whole_text(received, stops)


def test_earliest_end_wins() -> None:
    assert StopChecker(["abcd", "bc"]).push("xabcd") == ("xa", "bc")


def test_longest_of_equal_ends_wins() -> None:
    assert StopChecker(["c", "abc", "bc"]).push("xabc") == ("x", "abc")


def test_nothing_after_the_stop() -> None:
    checker = StopChecker(["\n\n"])
    assert checker.push("a\n") == ("a", None)
    assert checker.push("\nb") == ("", "\n\n")
    assert checker.push("more") == ("", "\n\n")
    assert checker.flush() == ""


def test_held_text_comes_out_at_the_end() -> None:
    checker = StopChecker(["###"])
    assert checker.push("a ##") == ("a ", None)
    assert checker.flush() == "##"
    assert checker.flush() == ""


def test_no_stop_strings() -> None:
    assert StopChecker([]).push("text") == ("text", None)


def test_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="must not be empty") as error:
        StopChecker(["a", ""])
    assert error.value.param == "stop"
