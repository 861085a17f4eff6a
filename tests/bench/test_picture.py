"""The picture of a terminal: what it shows is what was printed."""

from __future__ import annotations

from xml.etree import ElementTree

from picture import Line, render, session, wrap


def test_long_lines_are_wrapped_by_their_width() -> None:
    assert wrap("abcdef", 4) == ["abcd", "ef"]
    assert wrap("一二三", 4) == ["一二", "三"]
    assert wrap("a一二", 4) == ["a一", "二"]
    assert wrap("", 4) == [""]


def test_text_is_shown_as_it_is() -> None:
    picture = ElementTree.fromstring(render([Line("a < b & \"c\" 'd'"), Line(""), Line("  end")]))
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["a < b & \"c\" 'd'", "  end"]


def test_a_long_stream_is_cut_and_says_so() -> None:
    lines = session(["banner"], [f"line {n}" for n in range(12)])
    assert [line.text for line in lines[1:3]] == ["banner", ""]
    assert lines[-2].text == "line 8"
    assert lines[-1] == Line("(3 more lines)", "note")
