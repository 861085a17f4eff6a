"""Calls that open with the tool's name on a line: GLM-4's with JSON, ChatGLM3's with Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.tools import CallStarted, ContentDelta, Tool, ToolParser
from glmserve.text.tools.named import NamedJsonParser, NamedPythonParser
from glmserve.text.tools.python_call import write_python_call
from support.tool_events import Reply, joined, streamed

WEATHER = Tool("get_weather", parameters={"type": "object", "properties": {"city": {}}})
TOOLS = (WEATHER, Tool("get_weather_map", parameters={"type": "object"}), Tool("get_time"))

JSON_REPLIES = {
    'get_weather\n{"city": "北京"}': Reply("", [("get_weather", '{"city": "北京"}')]),
    'get_weather_map \r\n {"a": [{"b": "}"}]}\n': Reply(
        "", [("get_weather_map", '{"a": [{"b": "}"}]}')]
    ),
    '\n get_weather\n{"city": "x"} and': Reply("and", [("get_weather", '{"city": "x"}')]),
    'get_weather\n{"city": "Bei': Reply("", [("get_weather", '{"city": "Bei')]),
    "get_time\n": Reply("", [("get_time", "{}")]),
    "get_time\n{}": Reply("", [("get_time", "{}")]),
}
PYTHON_REPLIES = {
    "get_weather\n ```python\ntool_call(city='北京')\n```": Reply(
        "", [("get_weather", '{"city": "北京"}')]
    ),
    "get_weather_map\n```\ntool_call(a=[1, {'b': (None, True, -2.5)}])```\n": Reply(
        "", [("get_weather_map", '{"a": [1, {"b": [null, true, -2.5]}]}')]
    ),
    "get_weather\nget_weather(city='x')": Reply("", [("get_weather", '{"city": "x"}')]),
    "get_time\n ```python\ntool_call()\n```": Reply("", [("get_time", "{}")]),
    "get_time\n": Reply("", [("get_time", "{}")]),
}
NO_CALLS = [
    "",
    "\n \n",
    "get_weather",
    "get_weather\n",
    "get_weather is a tool.\n{}",
    "get_weather\nis a tool.\n{}",
    "The tool is\nget_weather\n{}",
    "get_weathers\n{}",
    "你好！\n",
]
NO_JSON_CALLS = [*NO_CALLS, "get_time\n[1]"]
NO_PYTHON_CALLS = [
    *NO_CALLS,
    "get_weather\n ```python\ntool_call(city='Bei",
    "get_weather\n ```python\nprint(open('/etc/passwd').read())\n```",
    "get_weather\n ```python\ntool_call(city=f'{x}')\n```",
    "get_weather\n ```json\ntool_call(city='x')\n```",
    "get_weather\n ```python\ntool_call(city='x')\n```\nand more",
    'get_weather\n{"city": "x"}',
]

Parser = Callable[[Sequence[Tool]], ToolParser]
CASES = [(NamedJsonParser, *case) for case in JSON_REPLIES.items()] + [
    (NamedPythonParser, *case) for case in PYTHON_REPLIES.items()
]


@pytest.mark.parametrize(("parser", "text", "reply"), CASES)
def test_every_split(parser: Parser, text: str, reply: Reply) -> None:
    for cut in range(len(text) + 1):
        assert streamed(parser(TOOLS), (text[:cut], text[cut:])) == reply
    assert streamed(parser(TOOLS), text) == reply


@pytest.mark.parametrize(
    ("parser", "text"),
    [(NamedJsonParser, text) for text in NO_JSON_CALLS]
    + [(NamedPythonParser, text) for text in NO_PYTHON_CALLS],
)
def test_what_is_no_call_is_unharmed(parser: Parser, text: str) -> None:
    assert streamed(parser(TOOLS), [text]) == Reply(text, [])
    assert streamed(parser(TOOLS), text) == Reply(text, [])


@pytest.mark.parametrize("parser", [NamedJsonParser, NamedPythonParser])
def test_nothing_is_held_longer_than_needed(parser: Parser) -> None:
    answer = parser(TOOLS)
    assert answer.push("get_") == []
    assert answer.push("weather f") == [ContentDelta("get_weather f")]
    assert answer.push("orecasts\n") == [ContentDelta("orecasts\n")]
    assert answer.flush() == []


def test_json_arguments_are_passed_on_as_they_come() -> None:
    parser = NamedJsonParser(TOOLS)
    assert parser.push("get_weather\n") == []
    events = [parser.push(piece) for piece in ('{"ci', 'ty": ', "1}")]
    assert events[0][0] == CallStarted(0, "get_weather")
    assert [joined([events[0][0], event[-1]]).calls[0][1] for event in events] == [
        '{"ci',
        'ty": ',
        "1}",
    ]


fragments = st.sampled_from(
    [
        *("get_weather", "get_time", "_map", "```python\n", "```", "tool_call(", ")", "a='x'"),
        *"{}[]\"\\:,'=中\n ",
    ]
)


@pytest.mark.parametrize("parser", [NamedJsonParser, NamedPythonParser])
@given(pieces=st.lists(fragments, max_size=10))
def test_any_cut_gives_the_same(parser: Parser, pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = streamed(parser(TOOLS), [text])
    assert streamed(parser(TOOLS), pieces) == whole
    assert streamed(parser(TOOLS), text) == whole
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


@given(arguments=st.dictionaries(st.text() | st.just("city"), json_values, max_size=3))
def test_what_is_rendered_is_read_again(arguments: dict[str, object]) -> None:
    python = f"get_weather\n ```python\n{write_python_call(arguments)}\n```"
    [(name, text)] = streamed(NamedPythonParser(TOOLS), [python]).calls
    assert (name, json.loads(text)) == ("get_weather", arguments)
    written = json.dumps(arguments)
    reply = streamed(NamedJsonParser(TOOLS), f"get_weather\n{written}")
    assert reply == Reply("", [("get_weather", written)])
