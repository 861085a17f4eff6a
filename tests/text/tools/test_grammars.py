"""Whatever a grammar lets a model write is a call that the parser reads and the schema accepts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from glmserve.errors import InvalidRequestError
from glmserve.text.structure import Lark
from glmserve.text.structure.embedded_schema import embedded_schema
from glmserve.text.structure.grammar import grammar_text
from glmserve.text.tools import Tool, ToolParser
from glmserve.text.tools.named import NamedJsonParser, NamedPythonParser
from glmserve.text.tools.named_grammar import json_call_grammar, python_call_grammar
from glmserve.text.tools.tagged import TaggedParser, grammar, grammar_with_text
from support.tool_events import Reply, streamed


def function(name: str, properties: dict[str, Any], *required: str, **more: Any) -> Tool:
    parameters = {"type": "object", "properties": properties, "required": list(required), **more}
    return Tool(name, parameters=parameters)


TOOLS = (
    Tool("get_time"),
    function(
        "get_weather",
        {
            "days": {"type": "integer", "minimum": -3, "maximum": 99},
            "city": {"type": "string", "description": "The city."},
            "unit": {"enum": ["°C", "it's", "F\\", 3, None], "title": "Unit"},
            "brief": {"type": "boolean"},
            "id": {"const": "x"},
        },
        "city",
    ),
    function("get_weather_map", {"a-b": {"type": "string"}, "class": {"type": "null"}}, "a-b"),
    function(
        "search",
        {
            "filters": {"type": "array", "items": {"$ref": "#/$defs/filter"}, "maxItems": 2},
            "any": {"type": ["string", "null", "boolean"], "maxLength": 4},
        },
        "any",
        "filters",
        **{"$defs": {"filter": {"anyOf": [{"type": "string"}, {"type": "boolean"}]}}},
    ),
    function("tree", {"left": {"$ref": "#"}, "leaf": {"type": "integer"}}, title="A tree"),
    Tool("anything", parameters={"additionalProperties": {"type": "string"}, "maxProperties": 2}),
)

Forms = tuple[Callable[[Sequence[Tool]], str], Callable[[Sequence[Tool]], ToolParser]]
FORMS: dict[str, Forms] = {
    "tagged": (partial(grammar, parallel=False), TaggedParser),
    "json": (json_call_grammar, NamedJsonParser),
    "python": (python_call_grammar, NamedPythonParser),
}

END = 0
"""The token that ends a response."""

CLOSING = frozenset(b"\"'}]),\n")
"""What ends something is taken more often than other text, so that the texts end."""


class _Pieces:
    """A tokenizer as llguidance wants it; the grammars never make it encode a text."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.tokens = (b"<end>", *pieces)

    def __call__(self, text: bytes) -> list[int]:
        return [1 + byte for byte in text]


class Writer:
    """Writes random texts that a grammar allows."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = _Pieces(pieces)
        self._tokenizer = LLTokenizer(TokenizerWrapper(self._pieces))

    def matcher(self, text: str) -> LLMatcher:
        return LLMatcher(self._tokenizer, grammar_text(Lark(text)).plain, log_level=0)

    def write(self, text: str, seed: int) -> str:
        matcher = self.matcher(text)
        assert not matcher.get_error()
        rng, written = random.Random(seed), b""
        while END not in (allowed := self._allowed(matcher)):
            closing = [token for token in allowed if self._pieces.tokens[token][-1] in CLOSING]
            token = rng.choice(closing if closing and rng.random() < 0.6 else allowed)
            assert matcher.consume_token(token)
            written += self._pieces.tokens[token]
        return written.decode()

    def accepts(self, text: str, response: str) -> bool:
        matcher, data = self.matcher(text), [1 + byte for byte in response.encode()]
        return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()

    def _allowed(self, matcher: LLMatcher) -> list[int]:
        mask = matcher.compute_bitmask()
        tokens = range(len(self._pieces.tokens))
        return [token for token in tokens if mask[token // 8] >> (token % 8) & 1]


BYTES = [bytes([byte]) for byte in range(256)]


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer(BYTES)


@pytest.fixture(scope="module")
def piece_writer() -> Writer:
    """With pieces that cross every seam between the parts of a grammar."""
    seams = ['":', '": ', '": "', '": {', '"}', '"}}', '"}}<', "}</", "=", "='", '="', "')", "')\n"]
    names = ["get_", "get_weather", '{"name": "', '", "arguments": ', "tool_call(", "\n ```python"]
    return Writer(
        [*BYTES, *(piece.encode() for piece in (*seams, *names, "city", ", ", "``", "北京"))]
    )


def check(reply: Reply, tools: Sequence[Tool], num_calls: int = 1) -> None:
    assert reply.content == ""
    assert len(reply.calls) == num_calls
    schemas = {tool.name: tool.parameters or {"maxProperties": 0} for tool in tools}
    for name, arguments in reply.calls:
        value = json.loads(arguments)
        assert isinstance(value, dict)
        jsonschema.validate(value, schemas[name])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tools", [TOOLS, *((tool,) for tool in TOOLS)], ids=len)
def test_what_is_allowed_is_a_call(
    writer: Writer, piece_writer: Writer, form: str, tools: tuple[Tool, ...]
) -> None:
    grammar_of, parser_of = FORMS[form]
    text = grammar_of(tools)
    for seed in range(12):
        for written in (writer.write(text, seed), piece_writer.write(text, seed)):
            check(streamed(parser_of(tools), [written.lstrip()]), tools)


def test_several_calls(writer: Writer) -> None:
    calls = "\n".join(['<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'] * 3)
    assert writer.accepts(grammar(TOOLS, parallel=True), calls)
    assert not writer.accepts(grammar(TOOLS, parallel=False), calls)
    check(streamed(TaggedParser(TOOLS), calls), TOOLS, 3)


@pytest.mark.parametrize(
    ("form", "response"),
    [
        ("tagged", '<tool_call>{"name": "get_weather", "arguments": {"city":"x"}}</tool_call>'),
        ("tagged", '\n<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'),
        ("json", 'get_weather\n{"days": 3, "city": "北京", "unit": "°C"}'),
        ("python", "get_time\n ```python\ntool_call()\n```"),
        ("python", " get_weather\n ```python\ntool_call(city='北京')\n```"),
        ("python", 'get_weather\n ```python\ntool_call(days=3, city="x", brief=True)\n```'),
        ("python", "get_weather\n ```python\ntool_call(city='it\\'s', unit=\"it's\")\n```"),
        ("python", 'get_weather_map\n ```python\ntool_call(**{"a-b": "x"})\n```'),
    ],
)
def test_what_models_were_trained_to_write_is_allowed(
    writer: Writer, form: str, response: str
) -> None:
    assert writer.accepts(FORMS[form][0](TOOLS), response)


@pytest.mark.parametrize(
    ("form", "response"),
    [
        ("tagged", 'Hm <tool_call>{"name": "get_time", "arguments": {}}</tool_call>'),
        ("tagged", '<tool_call>{"name": "get_weather", "arguments": {}}</tool_call>'),
        ("json", 'get_weather\n{"city": "x", "more": 1}'),
        ("json", 'get_weather\n{"city":  "x"}'),
        ("json", "weather\n{}"),
        ("python", "get_weather\n ```python\ntool_call(brief=True)\n```"),
        ("python", "get_weather\n ```python\ntool_call(city='x', days=3)\n```"),
    ],
)
def test_what_is_no_call_is_not_allowed(writer: Writer, form: str, response: str) -> None:
    assert not writer.accepts(FORMS[form][0](TOOLS), response)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["string", ["array", "null"], 3])
def test_parameters_must_be_an_object(form: str, kind: object) -> None:
    with pytest.raises(InvalidRequestError, match="'f' must be a JSON schema of type 'object'"):
        FORMS[form][0]([Tool("f", parameters={"type": kind})])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": 3},
        {"properties": {"a": 3}},
        {"properties": {}, "required": 3},
        {"properties": {}, "required": [{}]},
        {"properties": {"a": {"enum": 3}, "b": {"type": {}}}},
        {"properties": {"a": {"$ref": 3}}, "$defs": []},
    ],
    ids=str,
)
def test_what_is_no_schema_matters_to_strict_tools(form: str, parameters: dict[str, Any]) -> None:
    relaxed = grammar_text(Lark(FORMS[form][0]([Tool("f", parameters=parameters)])))
    assert relaxed.dropped and all(name.startswith("f#/") for name in relaxed.dropped)
    strict = FORMS[form][0]([Tool("f", parameters=parameters, strict=True)])
    with pytest.raises(InvalidRequestError, match="the parameters of 'f': the schema"):
        grammar_text(Lark(strict))


@pytest.mark.parametrize("form", FORMS)
def test_one_keyword_that_no_grammar_can_hold(writer: Writer, form: str) -> None:
    """The rest of the schema is held all the same."""
    tool = function(
        "f", {"e": {"type": "integer"}, "s": {"type": "string", "pattern": "(?:a(?!x)|)"}}, "e"
    )
    text = FORMS[form][0]([tool])
    assert grammar_text(Lark(text)).dropped == ("f#/properties/s/pattern",)
    for seed in range(5):
        check(streamed(FORMS[form][1]([tool]), [writer.write(text, seed).lstrip()]), [tool])


def test_arguments_that_a_function_does_not_name() -> None:
    named = function("f", {"a": {}}, "a")
    assert named.schema()["additionalProperties"] is False
    for more in ({"additionalProperties": True}, {"allOf": [{}]}, {"required": ["b"]}):
        assert function("f", {"a": {}}, **more).schema().get("additionalProperties") is not False
    assert "additionalProperties" not in Tool("f", parameters={"type": "object"}).schema()
    assert Tool("f", parameters={}).schema()["additionalProperties"] is False


WITH_TEXT: dict[str, Callable[[Sequence[Tool]], str]] = {
    "tagged": partial(grammar_with_text, parallel=True),
    "json": partial(json_call_grammar, or_text=True),
    "python": partial(python_call_grammar, or_text=True),
}


@pytest.mark.parametrize(
    ("form", "response"),
    [
        ("tagged", "Hello, 3 < 4 and <tool_cal"),
        ("tagged", 'Hm <tool_call>{"name": "get_time", "arguments": {}}</tool_call>.\nDone'),
        ("tagged", '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>' * 2),
        ("json", "get_weather is a function"),
        ("json", "get_weathe\n{}"),
        ("json", 'get_weather\n{"city": "x"}'),
        ("json", "\n Hello\nget_time\n{"),
        ("python", "get_time"),
        ("python", "\n 你好"),
        ("python", "get_time\n ```python\ntool_call()\n```"),
    ],
)
def test_text_is_allowed_beside_calls(writer: Writer, form: str, response: str) -> None:
    assert writer.accepts(WITH_TEXT[form](TOOLS), response)


@pytest.mark.parametrize(
    ("form", "response"),
    [
        ("tagged", 'Hm <tool_call>{"name": "get_tim'),
        ("tagged", "<tool_call>hello"),
        ("tagged", '<tool_call>{"name": "get_weather", "arguments": {}}</tool_call>'),
        ("json", 'get_weather\n{"city": 3'),
        ("json", "\nget_time\nhello"),
        ("python", "get_time\n ```python\nprint"),
        ("python", " get_weather\n ```python\ntool_call(brief=True)"),
    ],
)
def test_what_begins_as_a_call_must_be_one(writer: Writer, form: str, response: str) -> None:
    assert not writer.accepts(WITH_TEXT[form](TOOLS), response)


ANSWER = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "sure": {"type": "boolean"}},
    "required": ["text"],
    "additionalProperties": False,
}
WITH_JSON: dict[str, Callable[[Sequence[Tool]], str]] = {
    "tagged": partial(grammar, parallel=True, or_json=embedded_schema(ANSWER)),
    "json": partial(json_call_grammar, or_json=embedded_schema(ANSWER)),
    "python": partial(python_call_grammar, or_json=embedded_schema(ANSWER)),
}
CALLS = {
    "tagged": '<tool_call>{"name": "get_weather", "arguments": {"city": "x"}}</tool_call>',
    "json": 'get_weather\n{"city": "x"}',
    "python": "get_weather\n ```python\ntool_call(city='x')\n```",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_call_or_json(writer: Writer, form: str) -> None:
    text = WITH_JSON[form](TOOLS)
    for answer in ('{"text": "<tool_call>"}', '{\n  "text": "get_time\\n{}",\n  "sure": true\n}'):
        assert writer.accepts(text, answer)
        assert streamed(FORMS[form][1](TOOLS), answer).content == answer
    assert writer.accepts(text, CALLS[form])
    for other in ("Hello", "{}", '{"text": 3}', '"text"', CALLS[form][:-3] + '{"text": "x"}'):
        assert not writer.accepts(text, other), other


@pytest.mark.parametrize("form", FORMS)
def test_what_is_allowed_is_a_call_or_json(writer: Writer, form: str) -> None:
    text, kinds = WITH_JSON[form](TOOLS), set()
    for seed in range(30):
        written = writer.write(text, seed).lstrip()
        reply = streamed(FORMS[form][1](TOOLS), [written])
        kinds.add(bool(reply.calls))
        if reply.calls:
            check(reply, TOOLS, len(reply.calls))
        else:
            assert reply.content == written
            jsonschema.validate(json.loads(written), ANSWER)
    assert kinds == {True, False}
