"""Conversations in which a client offers functions, written by the server's own code.

The model is to call what fits the question with the place that the question names, to say what
came back, and to talk as ever otherwise: when it is offered functions that do not fit, and when
it is offered none. Places are often made up, so that they must be copied and not remembered.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from corpus import (
    LANGUAGES,
    TEXT_DIR,
    Conversation,
    Corpus,
    Turn,
    Words,
    add_noise,
    draw_conversation,
    expand,
    fill,
    next_turn,
    plain,
    read_toml,
)

from glmserve.text.tools import Tool, ToolCall, tagged

SHARE = 0.22
"""Of all conversations."""

KINDS = ("weather", "time")

_ONSETS = "B C D F G H J K L M N P R S T V W Z Br Ch Cr Dr Fr Gr Kr Pr Sh St Tr Th".split()
_MIDDLES = "b c d f g h k l m n p r s t v z ll nd ng rt st ss".split()
_VOWELS = "a e i o u a e i o u ai ea ou".split()
_CODAS = ["", "", "", "n", "s", "r", "d", "l", "m", "k", "burg", "ton", "ville", "stad"]


@dataclass(frozen=True)
class ToolTalk:
    """`text/tools.toml` as it is written; its keys explain themselves there."""

    kinds: dict[str, dict[str, Any]]
    others: dict[str, dict[str, Any]]
    cities: dict[str, list[str]]
    conditions: dict[str, list[str]]

    def texts(self, language: str) -> Iterator[str]:
        """All that must be writable in the tokenizer's pieces."""
        yield from self.cities[language]
        yield from self.cities[f"{language}_held_out"]
        yield from self.conditions[language]
        yield "°℃"


@dataclass(frozen=True)
class Offer:
    """A function of one of the kinds, and the name of the argument that takes a place."""

    tool: Tool
    argument: str

    def arguments(self, place: str) -> str:
        return json.dumps({self.argument: place}, ensure_ascii=False)

    def call(self, place: str) -> str:
        return tagged.call_text(ToolCall("", self.tool.name, self.arguments(place)))


def load_tool_talk() -> ToolTalk:
    table = read_toml(TEXT_DIR / "tools.toml")
    kinds = {kind: table[kind] for kind in KINDS}
    return ToolTalk(kinds, table["others"], table["cities"], table["conditions"])


def mixed_conversations(
    corpus: Corpus, talk: ToolTalk, seed: int, often: float = 0.0
) -> Iterator[Conversation]:
    """Endless, reproducible stream of conversations with and without functions."""
    rng = random.Random(seed)
    while True:
        if rng.random() < SHARE:
            yield _draw(corpus, talk, rng, often)
        else:
            yield draw_conversation(corpus, rng, often)


def canonical_offer() -> Offer:
    """The function of the documentation's example."""
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }
    return Offer(Tool("get_weather", "Get the weather of a city.", parameters), "city")


def _draw(corpus: Corpus, talk: ToolTalk, rng: random.Random, often: float) -> Conversation:
    language = rng.choice(LANGUAGES)
    words = corpus.words[language]
    offers = _draw_offers(talk, rng)
    tools = [offer.tool for offer in offers.values()] + _draw_others(talk, rng, bool(offers))
    rng.shuffle(tools)
    turns: list[Turn] = []
    for _ in range(rng.choices((1, 2, 3), (0.7, 0.22, 0.08))[0]):
        previous = turns[-1].intent if turns else ""
        if rng.random() < 0.62:
            turns += _ask(corpus, talk, offers, language, previous, rng, often)
        else:
            turns.append(next_turn(corpus, language, previous, rng, often))
    system = [rng.choice(words.systems)] if rng.random() < 0.12 else []
    if tools:
        system.append(tagged.instructions(tools))
    return Conversation("\n\n".join(system), tuple(turns))


def _draw_offers(talk: ToolTalk, rng: random.Random) -> dict[str, Offer]:
    """By kind; none in some conversations, where the questions cannot be answered."""
    kinds = rng.choices((("weather",), ("weather", "time"), ("time",), ()), (74, 8, 5, 13))[0]
    return {kind: _draw_offer(talk.kinds[kind], kind, rng) for kind in kinds}


def _draw_offer(table: dict[str, Any], kind: str, rng: random.Random) -> Offer:
    if kind == "weather" and rng.random() < 0.25:
        return canonical_offer()
    argument = rng.choice(table["parameters"])
    place: dict[str, Any] = {"type": "string"}
    if rng.random() < 0.3:
        place["description"] = rng.choice(table["details"])
    parameters: dict[str, Any] = {"type": "object", "properties": {argument: place}}
    if rng.random() < 0.08:
        units = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        parameters["properties"]["unit"] = units
    if rng.random() < 0.85:
        parameters["required"] = [argument]
    if rng.random() < 0.12:
        parameters["additionalProperties"] = False
    description = rng.choice(table["descriptions"]) if rng.random() < 0.85 else None
    return Offer(Tool(rng.choice(table["names"]), description, parameters), argument)


def _draw_others(talk: ToolTalk, rng: random.Random, offered: bool) -> list[Tool]:
    if rng.random() > (0.08 if offered else 0.4):
        return []
    name = rng.choice(list(talk.others))
    table = talk.others[name]
    properties = {key: {"type": "string"} for key in table["parameters"]}
    parameters = {"type": "object", "properties": properties, "required": table["parameters"]}
    return [Tool(name, table["description"], parameters if properties else None)]


def _ask(
    corpus: Corpus,
    talk: ToolTalk,
    offers: dict[str, Offer],
    language: str,
    previous: str,
    rng: random.Random,
    often: float,
) -> list[Turn]:
    """A question, the call and what is said of its result; or that the model cannot know."""
    words = corpus.words[language]
    if previous in offers and rng.random() < 0.5:
        kind, patterns = previous, talk.kinds[previous][language]["again"]
    else:
        kind = rng.choice(list(offers)) if offers else rng.choice(KINDS)
        texts = talk.kinds[kind][language]
        patterns = texts["often" if rng.random() < max(0.3, often) else "ask"]
    question, place = _draw_question(patterns, corpus, talk, language, rng)
    if kind not in offers:
        return [Turn(question, words.unknown_answer, "unknown")]
    turns = [Turn(question, offers[kind].call(place), "call")]
    if rng.random() < 0.75:
        slots = _draw_values(talk, language, rng) | {"city": place}
        result, answer = rng.choice(talk.kinds[kind][language]["results"])
        turns.append(Turn(tagged.result_text(fill(result, slots)), fill(answer, slots), kind))
    return turns


def _draw_question(
    patterns: list[str], corpus: Corpus, talk: ToolTalk, language: str, rng: random.Random
) -> tuple[str, str]:
    """A question as people type it, and the place as it is written there."""
    words = corpus.words[language]
    while True:
        place = _draw_place(talk, words, language, rng)
        question = fill(expand(rng.choice(patterns), rng), {"city": place})
        if rng.random() < 0.6:
            question = add_noise(question, language, words, rng)
        typed = next((t for t in (place, place.lower(), place.upper()) if t in question), None)
        if typed and plain(question) not in corpus.held_out:
            return question, typed


def _draw_place(talk: ToolTalk, words: Words, language: str, rng: random.Random) -> str:
    roll = rng.random()
    held_out = talk.cities[f"{language}_held_out"]
    while True:
        if roll < 0.35:
            place = rng.choice(talk.cities[language])
        elif roll < 0.45:
            place = rng.choice(words.names)
        else:
            place = made_up_place(talk, words, language, rng)
        if place not in held_out:
            return place


def made_up_place(talk: ToolTalk, words: Words, language: str, rng: random.Random) -> str:
    if language == "zh":
        pool = words.characters + "".join(talk.cities["zh"])
        return "".join(rng.choice(pool) for _ in range(rng.choice((2, 2, 2, 3, 4))))
    parts = [rng.choice(_ONSETS) if rng.random() < 0.8 else "", rng.choice(_VOWELS)]
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        parts += [rng.choice(_MIDDLES), rng.choice(_VOWELS)]
    word = "".join((*parts, rng.choice(_CODAS)))
    return (word if len(word) > 2 else word + "ra").capitalize()


def _draw_values(talk: ToolTalk, language: str, rng: random.Random) -> dict[str, str]:
    degrees = rng.choice((18, rng.randint(-15, 40), rng.randint(5, 30)))
    return {
        "t": f"{degrees}.{rng.randint(1, 9)}" if rng.random() < 0.08 else str(degrees),
        "c": rng.choice(talk.conditions[language]),
        "h": str(rng.randint(0, 23)),
        "m": f"{rng.randint(0, 59):02}",
    }


@dataclass(frozen=True)
class Exam:
    """A question about a place, what the canonical function may say, and what is to be said."""

    language: str
    question: str
    place: str
    result: str
    answer: str


def exams(talk: ToolTalk) -> Iterator[Exam]:
    """Places never seen in training, asked for in common and in unseen ways."""
    rng = random.Random(0)
    for language in LANGUAGES:
        texts = talk.kinds["weather"][language]
        patterns = (*texts["often"][:2], *texts["held_out"])
        places = talk.cities[f"{language}_held_out"]
        for place, pattern in itertools.product((*places, talk.cities[language][0]), patterns):
            slots = _draw_values(talk, language, rng) | {"city": place}
            result, answer = (fill(text, slots) for text in rng.choice(texts["results"]))
            question = fill(pattern, slots)
            yield Exam(language, question, place, result, answer)
