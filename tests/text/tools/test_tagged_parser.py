"""Calls between tags, found in a stream."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.tools import CallStarted, ContentDelta, Tool, ToolCall
from glmserve.text.tools.tagged import CLOSE, OPEN, TaggedParser, call_text
from support.tool_events import Reply, joined, streamed

WEATHER = Tool("get_weather", parameters={"type": "object", "properties": {"city": {}}})
TOOLS = (WEATHER, Tool("get_time"))

PARIS = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
TIME = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'

REPLIES = {
    "": Reply("", []),
    "Hello!\n": Reply("Hello!\n", []),
    PARIS: Reply("", [("get_weather", '{"city": "Paris"}')]),
    f"Let me see.\n{PARIS}\n": Reply("Let me see.", [("get_weather", '{"city": "Paris"}')]),
    f"{PARIS}\n{TIME}": Reply("", [("get_weather", '{"city": "Paris"}'), ("get_time", "{}")]),
    f"a {TIME} b ": Reply("ab ", [("get_time", "{}")]),
    # braces, quotes and tags within strings are arguments
    '<tool_call>{"name":"get_weather","arguments":{"city":"}\\"</tool_call>{"}}</tool_call>': Reply(
        "", [("get_weather", '{"city":"}\\"</tool_call>{"}')]
    ),
    # other ways to write the same
    '<tool_call>\n{ "arguments": {"city": "Rom\\u0065"}, "name": "get_weather" }\n</tool_call>': (
        Reply("", [("get_weather", '{"city": "Rome"}')])
    ),
    '<tool_call>{"name": "get_time"}</tool_call>': Reply("", [("get_time", "{}")]),
    '<tool_call>{"name": "get_time", "arguments": null}</tool_call>': Reply(
        "", [("get_time", "{}")]
    ),
    '<tool_call>{"name": "get_time", "arguments": {}}': Reply("", [("get_time", "{}")]),
    '<tool_call>{"name": "get_time"}': Reply("", [("get_time", "{}")]),
    '<tool_call>{"arguments": {"city": "\\ud800"}, "name": "get_weather"}</tool_call>': Reply(
        "", [("get_weather", '{"city": "\\ud800"}')]
    ),
    # cut off
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa': Reply(
        "", [("get_weather", '{"city": "Pa')]
    ),
    '<tool_call>{"name": "get_time", "arguments": {}}</tool_c': Reply("", [("get_time", "{}")]),
    # what follows a call that does not end as it should is content
    '<tool_call>{"name": "get_time", "arguments": {}}, really': Reply(
        ", really", [("get_time", "{}")]
    ),
}

NO_CALLS = [
    "Write <tool_call> to call.",
    "  <tool_call>  ",
    "a < b <tool_cal",
    "<tool_call>{",
    '<tool_call>{"name": "get_we',
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "get_time", "arguments": []}</tool_call>',
    '<tool_call>{"name": "get_time", "arguments": {}, "id": 1}</tool_call>'.replace("{},", "1,"),
    '<tool_call>["get_time"]</tool_call>',
    '<tool_call>{"arguments": {"x": NaN}, "name": "get_time"}</tool_call>',
    '<tool_call>{"arguments": {"x": 1e999}, "name": "get_time"}</tool_call>',
    '<tool_call>{"arguments": ' + "[" * 5000 + "</tool_call>",
    "</tool_call> <tool_response>x</tool_response>",
]


@pytest.mark.parametrize("text", REPLIES)
def test_every_split(text: str) -> None:
    for cut in range(len(text) + 1):
        assert streamed(TaggedParser(TOOLS), (text[:cut], text[cut:])) == REPLIES[text]
    assert streamed(TaggedParser(TOOLS), text) == REPLIES[text]


@pytest.mark.parametrize("text", NO_CALLS)
def test_what_is_no_call_is_unharmed(text: str) -> None:
    assert streamed(TaggedParser(TOOLS), [text]) == Reply(text, [])
    assert streamed(TaggedParser(TOOLS), text) == Reply(text, [])


def test_a_broken_call_hides_no_other() -> None:
    reply = streamed(TaggedParser(TOOLS), f'<tool_call>{{"name": {TIME} ok')
    assert reply == Reply('<tool_call>{"name":ok', [("get_time", "{}")])


def test_without_tools_everything_is_content() -> None:
    assert streamed(TaggedParser(()), PARIS) == Reply(PARIS, [])


def test_nothing_is_held_longer_than_needed() -> None:
    parser = TaggedParser(TOOLS)
    assert joined(parser.push("Wait <")).content == "Wait"
    assert joined(parser.push("3\n")).content == " <3"
    assert joined(parser.push("<tool_call>")).content == ""
    assert parser.push("x") == [ContentDelta("\n<tool_call>"), ContentDelta("x")]


def test_arguments_are_passed_on_as_they_come() -> None:
    parser = TaggedParser(TOOLS)
    assert parser.push(OPEN + '{"name": "get_weather", "arguments": ') == []
    first = parser.push('{"ci')
    assert first[0] == CallStarted(0, "get_weather")
    assert [
        joined([first[0], *parser.push(piece)]).calls[0][1] for piece in ('ty": "P', '"}}')
    ] == [
        'ty": "P',
        '"}',
    ]


fragments = st.sampled_from(
    [PARIS, TIME, OPEN, CLOSE, *'{}[]"\\:, \n<a中', '"name"', '"arguments"', '"get_time"', "{}"]
)


@given(pieces=st.lists(fragments, max_size=12), cuts=st.lists(st.integers(0, 9), min_size=1))
def test_any_cut_gives_the_same(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    whole = streamed(TaggedParser(TOOLS), [text])
    assert streamed(TaggedParser(TOOLS), text) == whole
    position, parts = 0, []
    for length in cuts * (len(text) + 1):
        parts.append(text[position : position + length])
        position += length
        if position >= len(text) or not any(cuts):
            break
    assert streamed(TaggedParser(TOOLS), [*parts, text[position:]]) == whole
    if not whole.calls:
        assert whole.content == text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from([tool.name for tool in TOOLS]),
            st.dictionaries(st.text(), json_values, max_size=3),
        ),
        min_size=1,
        max_size=3,
    ),
    ascii_only=st.booleans(),
)
def test_what_is_rendered_is_read_again(
    calls: list[tuple[str, dict[str, object]]], ascii_only: bool
) -> None:
    written = [(name, json.dumps(value, ensure_ascii=ascii_only)) for name, value in calls]
    text = "\n".join(call_text(ToolCall("", *call)) for call in written)
    assert streamed(TaggedParser(TOOLS), [text]) == Reply("", written)
    assert streamed(TaggedParser(TOOLS), text) == Reply("", written)
