"""Regexes, choices, grammars and free text; and what the very first token does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from glmserve.errors import InvalidRequestError
from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.structure import Choice, Grammar, JsonSchema, Lark, Regex, Structure, Without
from glmserve.text.structure.embedded_schema import embedded_schema

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-c]{2,4}",
        r"^\d{3}-\d{4}$",
        r"^(yes|no)$",
        r"^a|b$",
        r"a/b\$",
        r"[^\n]{1,5}",
        r"\w{1,3}",
        r"[\u4e00-\u9fff]{2}",
        r"a?",
        " x",
        r"(?i)ok",
        "a\nb",
    ],
)
async def test_regex(tiny: Any, pattern: str) -> None:
    for text in await tiny.texts(Regex(pattern), 20):
        assert re.fullmatch(pattern, text), text


async def test_dots_are_whole_characters(tiny: Any) -> None:
    for text in await tiny.texts(Regex(r"(?s:.){3}"), 60):
        assert len(text) == 3
        assert "\ufffd" not in text


async def test_choice(tiny: Any) -> None:
    options = ("yes", "no", "nope", "是的", 'a "b" \\', "two\nlines", "yes")
    assert await tiny.texts(Choice(options), 150) == set(options)


async def test_gbnf(tiny: Any) -> None:
    grammar = 'root ::= item ("," item)?\nitem ::= [a-c] | "x" [0-9]{2} # comment\n'
    item = "([a-c]|x[0-9]{2})"
    for text in await tiny.texts(Grammar(grammar), 30):
        assert re.fullmatch(f"{item}(,{item})?", text), text


async def test_lark(tiny: Any) -> None:
    grammar = """
        // start, "start" and /start/ in other roles
        start: "start" verb | /start!/
        verb: ("go" | "stop") END?
        END: /[.!]/
    """
    texts = await tiny.texts(Grammar(grammar), 60)
    assert texts >= {"startgo", "start!"}
    assert all(re.fullmatch(r"start(!|(go|stop)[.!]?)", text) for text in texts)


async def test_schemas_within_lark_are_checked(tiny: Any) -> None:
    schema = embedded_schema({"oneOf": [{"const": 1}, {"const": 2}]})
    call = f'start: "<call>" {schema} "</call>"'
    assert await tiny.texts(Lark(call), 20) == {"<call>1</call>", "<call>2</call>"}
    bad = {"pattern": "a(?!b)"}
    for structure in (
        Lark(f"start: {embedded_schema(bad)}"),
        Grammar(f"start: %json {json.dumps(bad)}"),
    ):
        with pytest.raises(InvalidRequestError, match="look-around"):
            await tiny.constraint(structure)


async def test_only_our_own_grammars_choose_their_whitespace(tiny: Any) -> None:
    schema = {
        "type": "array",
        "items": {"const": 1},
        "maxItems": 3,
    }
    layout = {"whitespace_flexible": False, "item_separator": ", "}
    texts = await tiny.texts(Lark(f"start: {embedded_schema(schema, layout=layout)}"), 20)
    assert texts == {"[]", "[1]", "[1, 1]", "[1, 1, 1]"}
    theirs = json.dumps({**schema, "x-guidance": layout})
    constraint = await tiny.constraint(Grammar(f"start: %json {theirs}"))
    tiny.sampler.force(constraint, [b"[", b"1", b"\n", b",", b"1", b"]"])


async def test_without_words(tiny: Any) -> None:
    words = ("e", "的", " a", "\n")
    compiled = await tiny.compiler.compile(Without(words), stop_ids=tiny.stop_ids)
    for seed in range(30):
        ids, _ = tiny.sampler.run(compiled.constraint(), seed=seed, limit=60)
        text = tiny.tokenizer.decode(ids)
        assert not [word for word in words if word in text], text


async def test_free_text_stays_free(tiny: Any) -> None:
    """Anything may be written around the words, one character or one byte at a time."""
    text = " \t\n\x01🙂 über: bad-wor d 坏\r\n<|user|> "
    constraint = await tiny.constraint(Without(("bad-word", "坏话")))
    tiny.sampler.force(constraint, [bytes([byte]) for byte in text.encode()])
    assert tiny.sampler.allowed(constraint)[list(tiny.stop_ids)].all()


async def test_words_are_found_across_tokens(tiny: Any) -> None:
    constraint = await tiny.constraint(Without(("abc",)))
    tiny.sampler.force(constraint, [b"a", b"b"])
    allowed = tiny.sampler.allowed(constraint)
    pieces = [tiny.tokenizer.token_bytes(int(i)) for i in allowed.nonzero()[0]]
    assert not [piece for piece in pieces if piece.startswith(b"c")]
    assert b"b" in pieces


REFUSED: list[tuple[Structure, str]] = [
    (Regex(""), "is empty"),
    (Regex("("), "regex"),
    (Regex("(?=a)b"), "look-around|look-ahead|regex"),
    (Regex("[^\\s\\S]"), "no text"),
    (Regex("\ud800"), "lone surrogate"),
    (Regex("a" * 20_000), "at most 10000"),
    (Choice(()), "must be choices"),
    (Choice(("a", "")), "none of them empty"),
    (Choice(("\udc00",)), "lone surrogate"),
    (Choice(tuple(map(str, range(1001)))), "too many choices"),
    (Without(("",)), "none of them empty"),
    (Grammar("root ::= ("), "not understood"),
    (Grammar('root ::= "a" item'), "not understood: Rule 'item'"),
    (Grammar('item ::= "a"'), "not understood: No 'root'"),
    (Grammar('begin: "a"'), "no rule `start`"),
    (Grammar('start: "a" item'), "item"),
    (Grammar("start: <|user|>"), "special token"),
    (Grammar("start: <[1-10]>"), "special token"),
    (Grammar('start: a\na[stop="x"]: /.*/'), "stop= is not supported"),
    (Grammar("start: a\na[ max_tokens = 3]: /.*/"), "max_tokens= is not supported"),
    (Grammar('%llguidance {"no_forcing": false}\nstart: "a"'), "%llguidance is not supported"),
    (Grammar("start: %json 3"), "must be an object"),
    (Grammar("start: %json {"), "must be followed by a schema"),
    (Grammar("x" * 100_000), "at most 65536"),
    (Grammar("start: X Y\nX: /a/ & /b/\nY: /c/"), "no text|no text can follow"),
    (JsonSchema({"type": "integer", "minimum": 3, "maximum": 2}), "minimum"),
    (JsonSchema({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}), "integer"),
    (JsonSchema({"type": "string", "minLength": 3, "maxLength": 2}), "minLength"),
    (JsonSchema({"type": "string", "enum": [1]}), "incompatible types"),
    (JsonSchema({"type": "string", "pattern": "^a{5}$", "maxLength": 3}), "empty"),
    (JsonSchema({"allOf": [{"type": "string"}, {"type": "null"}]}), "incompatible types"),
    (JsonSchema({"type": "object", "minProperties": 2, "maxProperties": 1}), "minProperties"),
    (JsonSchema({"type": "array", "minItems": 2, "maxItems": 1}), "minItems"),
]


@pytest.mark.parametrize(("structure", "problem"), REFUSED, ids=[p for _, p in REFUSED])
async def test_refused_by_name(tiny: Any, structure: Structure, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem) as caught:
        await tiny.constraint(structure, param="guided")
    assert caught.value.param == "guided"


@pytest.fixture(scope="module")
def opening_tokenizers(train_sentencepiece: Any, small_tiktoken: Tokenizer) -> dict[str, Tokenizer]:
    return {
        "drop one": load_tokenizer(train_sentencepiece()),
        "drop all": load_tokenizer(train_sentencepiece(remove_extra_whitespaces=True)),
        "keep": load_tokenizer(train_sentencepiece(add_dummy_prefix=False)),
        "tiktoken": small_tiktoken,
    }


@pytest.mark.parametrize("kind", ["drop one", "drop all", "keep", "tiktoken"])
async def test_the_reader_sees_the_structure_from_its_first_character(
    opening_tokenizers: dict[str, Tokenizer], try_tokenizer: Any, kind: str
) -> None:
    """Whether a model opens with a blank that the tokenizer drops, or without."""
    tried = try_tokenizer(opening_tokenizers[kind])
    try:
        for options in [("Hello", "the quick"), (" the", "  the"), ("你好",), ("x",)]:
            assert await tried.texts(Choice(options), 60) == set(options)
        for text in await tried.texts(Regex(" {0,3}[a-z]{1,2}"), 80):
            assert re.fullmatch(" {0,3}[a-z]{1,2}", text)
    finally:
        await tried.compiler.close()


async def test_both_ways_to_open_are_allowed(tiny: Any) -> None:
    tokenizer = tiny.tokenizer
    constraint = await tiny.constraint(Choice(("the", "is")))
    opening = {tokenizer.token_bytes(int(i)) for i in tiny.sampler.allowed(constraint).nonzero()[0]}
    assert opening >= {b" ", b" t", b"t", b" the", b" i", b"i"} & {
        tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)
    }
    assert not [piece for piece in opening if piece.startswith(b"  ")]


async def test_a_lead_in_may_come_first(tiny: Any) -> None:
    lead_in = r"[ \n]{0,3}"
    texts = await tiny.texts(Choice(("yes",)), 40, lead_in=lead_in)
    assert {"yes"} < texts
    assert {text.lstrip() for text in texts} == {"yes"}
    texts = await tiny.texts(JsonSchema({"const": 1}), 40, lead_in=lead_in)
    assert {"1"} < texts
    assert {text.lstrip() for text in texts} == {"1"}
