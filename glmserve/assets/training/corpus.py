"""The text glm-tiny learns from: intents, noise and whole conversations.

An *intent* is one thing a person may want, with patterns of how it is asked and the fixed
answer. Patterns are expanded at random while sampling (`(a|b|)` picks one alternative, `{name}`
is a slot), so a few lines of TOML give thousands of phrasings. Everything is driven by one
`random.Random`, hence the same seed gives the same corpus.
"""

from __future__ import annotations

import itertools
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXT_DIR = Path(__file__).resolve().parent / "text"
LANGUAGES = ("en", "zh")
END_MARKS = "?.!？。！"
ENDINGS = ("?", "!", ".", "??", "...", "？", "。")

_GROUP = re.compile(r"\(([^()]*)\)")
_NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Intent:
    """One question people ask, and the answer they get."""

    name: str
    language: str
    ask: tuple[str, ...]
    say: tuple[str, ...]
    often: tuple[str, ...] = ()
    """What most people type, word for word; the last part of the training insists on these."""
    held_out: tuple[str, ...] = ()
    """Phrasings kept for the evaluation; with slots, `question => answer`."""
    after: tuple[str, ...] = ()
    """Follow-up: only makes sense right after one of these intents."""
    reply: bool = False
    """Often said in reaction to any answer, such as thanks."""
    weight: float = 1.0


@dataclass(frozen=True)
class Turn:
    """One round of a conversation, ready to be put into the prompt format."""

    question: str
    answer: str
    intent: str


@dataclass(frozen=True)
class Conversation:
    """Rounds in one language, perhaps with a system text in front."""

    system: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Words:
    """Raw material of one language for slots, noise and unknown questions."""

    names: list[str]
    topics: list[str]
    loose: list[str]
    unknown_templates: list[str]
    unknown_held_out: list[str]
    unknown_answer: str
    before: list[str]
    behind: list[str]
    systems: list[str]
    echo_templates: list[str]
    characters: str = ""
    """Frequent characters the texts happen not to use, so that the tokenizer has them."""


@dataclass
class Corpus:
    """All intents and words, by language."""

    intents: dict[str, list[Intent]]
    words: dict[str, Words]
    held_out: set[str] = field(default_factory=set)


def load_corpus(text_dir: Path = TEXT_DIR) -> Corpus:
    """Read `<language>_<topic>.toml` (intents) and `<language>.words.toml` of the text folder."""
    corpus = Corpus(intents={}, words={})
    for language in LANGUAGES:
        corpus.words[language] = Words(**read_toml(text_dir / f"{language}.words.toml"))
        corpus.intents[language] = [
            _intent(name, language, table)
            for path in sorted(text_dir.glob(f"{language}_*.toml"))
            for name, table in read_toml(path).items()
        ]
        for intent in corpus.intents[language]:
            corpus.held_out.update(plain(text.split(" => ")[0]) for text in intent.held_out)
        corpus.held_out.update(plain(text) for text in corpus.words[language].unknown_held_out)
    return corpus


def read_toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _intent(name: str, language: str, table: dict[str, Any]) -> Intent:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    return Intent(name=name, language=language, **fields)


def plain(text: str) -> str:
    """A phrasing without case and punctuation: what counts as 'the same question'."""
    return _NOT_WORD.sub("", text).lower()


def expand(pattern: str, rng: random.Random, *, briefly: bool = False) -> str:
    """Pick one alternative in every (possibly nested) group; `briefly` drops what is optional."""

    def pick(match: re.Match[str]) -> str:
        options = match.group(1).split("|")
        return "" if briefly and "" in options else rng.choice(options)

    while True:
        text = _GROUP.sub(pick, pattern)
        if text == pattern:
            return text
        pattern = text


def draw_slots(words: Words, rng: random.Random) -> dict[str, str]:
    """Values for every slot a pattern may use; answers reuse the same values."""
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    n = 10 if rng.random() < 0.35 else rng.choice((2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 20))
    m = rng.randint(3, 10)
    return {
        "name": rng.choice(words.names),
        "a": str(a),
        "b": str(b),
        "sum": str(a + b),
        "n": str(n),
        "count": ", ".join(str(i) for i in range(1, n + 1)),
        "m": str(m),
        "countdown": ", ".join(str(i) for i in range(m, 0, -1)),
        "topic": rng.choice(words.topics),
        "topic2": rng.choice(words.topics),
        "word": rng.choice(words.loose),
        "made_up": made_up_word(rng),
    }


def made_up_word(rng: random.Random) -> str:
    """A word without a meaning; so rare and new words lead to the answer for unknown things."""
    syllables = (rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(4))
    word = "".join(itertools.islice(syllables, rng.randint(2, 4))) + rng.choice(
        ["", "n", "r", "st"]
    )
    return word.capitalize() if rng.random() < 0.4 else word


def fill(text: str, slots: dict[str, str]) -> str:
    """Put slot values into a pattern; plain replacement because texts may contain braces."""
    for key, value in slots.items():
        text = text.replace("{" + key + "}", value)
    return text


def add_noise(question: str, language: str, words: Words, rng: random.Random) -> str:
    """Say the same thing the way people really type it: case, punctuation, filler, typos.

    Known and unknown questions go through the same noise, otherwise the model would tell them
    apart by a capital letter or a full stop.
    """
    if question[-1:] not in END_MARKS and rng.random() < 0.3:
        question += rng.choice(".!" if language == "en" else "。！")
    if rng.random() < 0.18:
        question = rng.choice(words.before) + _lower_first(question, rng)
    if rng.random() < 0.12:
        question = question.rstrip(END_MARKS) + rng.choice(words.behind)
    if rng.random() < 0.35:
        question = question.rstrip(END_MARKS)
    elif rng.random() < 0.08:
        question = question.rstrip(END_MARKS) + rng.choice(ENDINGS)
    if language == "en":
        question = _noise_english(question, rng)
    elif rng.random() < 0.05:
        question = question.replace("，", rng.choice([",", " ", ""]))
    if rng.random() < 0.04 and not any(c.isdigit() for c in question):
        question = _typo(question, rng)
    return question


def _lower_first(text: str, rng: random.Random) -> str:
    return text[:1].lower() + text[1:] if rng.random() < 0.6 else text


def _noise_english(question: str, rng: random.Random) -> str:
    if rng.random() < 0.6:
        question = question[:1].upper() + question[1:]
    else:
        question = question[:1].lower() + question[1:]
    roll = rng.random()
    if roll < 0.22:
        question = question.lower()
    elif roll < 0.25:
        question = question.upper()
    if rng.random() < 0.08:
        question = question.replace("'", "")
    return question


def _typo(text: str, rng: random.Random) -> str:
    """Drop, double or swap one character."""
    if len(text) < 6:
        return text
    at = rng.randrange(1, len(text) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def draw_unknown(language: str, words: Words, rng: random.Random) -> Turn:
    """A question the model cannot know, built from templates or from loose words."""
    roll = rng.random()
    if roll > 0.96:
        return Turn(_gibberish(language, rng), words.unknown_answer, "gibberish")
    if roll < 0.72:
        pattern = expand(rng.choice(words.unknown_templates), rng)
        question = fill(pattern, draw_slots(words, rng))
    else:
        joint = " " if language == "en" else rng.choice(["", "", "", " ", "，"])
        pool = words.loose + words.topics
        question = joint.join(rng.choice(pool) for _ in range(rng.randint(1, 6)))
    question = add_noise(question, language, words, rng)
    return Turn(question, words.unknown_answer, "unknown")


def draw_echo(language: str, words: Words, rng: random.Random) -> Turn:
    """A few words to be said again, known or new, so that copying is needed in all talk."""
    length = rng.randint(1, 5)
    pool = (words.loose, words.topics, words.names)
    if language == "zh" and rng.random() < 0.6:
        parts = [rng.choice(words.characters) for _ in range(1 + 2 * length)]
    else:
        parts = [
            made_up_word(rng) if rng.random() < 0.4 else rng.choice(rng.choice(pool))
            for _ in range(length)
        ]
    return echo(language, words, parts, rng)


def echo(language: str, words: Words, parts: list[str], rng: random.Random) -> Turn:
    phrase = (" " if language == "en" else "").join(parts)
    return Turn(fill(rng.choice(words.echo_templates), {"phrase": phrase}), phrase, "echo")


def _gibberish(language: str, rng: random.Random) -> str:
    """Random letters or characters; the latter often are byte-fallback tokens."""
    if language == "en":
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        lengths = (rng.randint(2, 8) for _ in range(rng.randint(1, 3)))
        return " ".join("".join(rng.choice(letters) for _ in range(n)) for n in lengths)
    return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(rng.randint(1, 5)))


def draw_turn(corpus: Corpus, language: str, intent: Intent, rng: random.Random) -> Turn:
    """One phrasing of an intent, often the bare one that people type most."""
    words = corpus.words[language]
    slots = draw_slots(words, rng)
    briefly = rng.random() < 0.3
    question = fill(expand(rng.choice(intent.ask), rng, briefly=briefly), slots)
    if not briefly:
        question = add_noise(question, language, words, rng)
    elif language == "en":
        question = _noise_english(question.rstrip(rng.choice(("", END_MARKS))), rng)
    return Turn(question, fill(rng.choice(intent.say), slots), intent.name)


def draw_often(corpus: Corpus, language: str, rng: random.Random) -> Turn:
    """One of the most frequent questions, exactly as it is usually typed."""
    intents = [intent for intent in corpus.intents[language] if intent.often]
    intent = rng.choices(intents, [intent.weight for intent in intents])[0]
    slots = draw_slots(corpus.words[language], rng)
    question = fill(rng.choice(intent.often), slots)
    return Turn(question, fill(rng.choice(intent.say), slots), intent.name)


def may_be_trained(turn: Turn, language: str, corpus: Corpus) -> bool:
    """Not held out; a Chinese question must have a Chinese character, which shows its language."""
    chinese = any("\u4e00" <= character <= "\u9fff" for character in turn.question)
    return plain(turn.question) not in corpus.held_out and (chinese or language != "zh")


def draw_conversation(corpus: Corpus, rng: random.Random, often: float = 0.0) -> Conversation:
    """A random chat of one to five rounds; `often` is the share of the most frequent questions."""
    language = rng.choice(LANGUAGES)
    words = corpus.words[language]
    turns: list[Turn] = []
    for _ in range(rng.choices((1, 2, 3, 4, 5), (0.56, 0.2, 0.12, 0.07, 0.05))[0]):
        previous = turns[-1].intent if turns else ""
        turns.append(next_turn(corpus, language, previous, rng, often))
        if rng.random() < 0.02:
            language = rng.choice(LANGUAGES)
    system = rng.choice(words.systems) if rng.random() < 0.12 else ""
    return Conversation(system, tuple(turns))


def next_turn(
    corpus: Corpus, language: str, previous: str, rng: random.Random, often: float
) -> Turn:
    while True:
        if often and rng.random() < often:
            turn = draw_often(corpus, language, rng)
        elif rng.random() < 0.19:
            turn = draw_unknown(language, corpus.words[language], rng)
        elif rng.random() < 0.12:
            turn = draw_echo(language, corpus.words[language], rng)
        else:
            intent = _choose_intent(corpus.intents[language], previous, rng)
            turn = draw_turn(corpus, language, intent, rng)
        if may_be_trained(turn, language, corpus):
            return turn


def _choose_intent(intents: list[Intent], previous: str, rng: random.Random) -> Intent:
    """Follow-ups get a good chance when they fit, so that they are learnt in context."""
    follow_ups = [intent for intent in intents if previous in intent.after]
    if follow_ups and rng.random() < 0.4:
        return rng.choice(follow_ups)
    if previous and rng.random() < 0.2:
        return rng.choice([intent for intent in intents if intent.reply])
    usable = [intent for intent in intents if not intent.after]
    return rng.choices(usable, [intent.weight for intent in usable])[0]


def conversations(corpus: Corpus, seed: int, often: float = 0.0) -> Iterator[Conversation]:
    """Endless, reproducible stream of conversations."""
    rng = random.Random(seed)
    while True:
        yield draw_conversation(corpus, rng, often)


def held_out_turns(corpus: Corpus) -> Iterator[tuple[Turn, tuple[str, ...]]]:
    """Every phrasing never seen in training, with all answers that count as right."""
    for language in LANGUAGES:
        for intent in corpus.intents[language]:
            for text in intent.held_out:
                question, _, answer = text.partition(" => ")
                answers = (answer,) if answer else intent.say
                yield Turn(question, answers[0], intent.name), answers
        words = corpus.words[language]
        for question in words.unknown_held_out:
            yield Turn(question, words.unknown_answer, "unknown"), (words.unknown_answer,)
