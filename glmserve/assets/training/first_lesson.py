"""The first lesson: to say again what stands in the question.

A network learns to copy suddenly or not at all. Within all other talk this one did not in the
whole of its training, and remembered places instead. With few words it does in minutes, keeps
it while there are ever more of them, and uses it for everything that comes after.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator

from corpus import LANGUAGES, Conversation, Corpus, Turn, echo, expand, fill, made_up_word
from tool_talk import KINDS, ToolTalk, made_up_place

FEW = 40
FEW_UNTIL, ALL_FROM = 10_000, 30_000
"""Conversations between which the number of words grows from FEW to all."""


def first_lesson(corpus: Corpus, talk: ToolTalk, seed: int) -> Iterator[Conversation]:
    """Words to be said again, and places to be found in a question; reproducible and endless."""
    rng = random.Random(seed)
    pools = {language: _words(corpus, talk, language, rng) for language in LANGUAGES}
    for drawn in itertools.count():
        language = rng.choice(("en", "zh", "zh"))
        growth = min(1.0, max(0.0, (drawn - FEW_UNTIL) / (ALL_FROM - FEW_UNTIL)))
        pool = pools[language]
        pool = pool[: FEW + int(growth * (len(pool) - FEW))]
        if rng.random() < 0.5:
            parts = rng.sample(pool, rng.randint(2, 6 if language == "en" else 10))
            turn = echo(language, corpus.words[language], parts, rng)
        else:
            turn = _find_place(talk, language, pool, rng)
        yield Conversation("", (turn,))


def _words(corpus: Corpus, talk: ToolTalk, language: str, rng: random.Random) -> list[str]:
    """Words of English, characters of Chinese: what is copied piece by piece."""
    words = corpus.words[language]
    if language == "zh":
        pool = [*words.characters, *"".join((*talk.cities["zh"], *words.names))]
    else:
        pool = [*words.loose, *words.names, *words.topics, *talk.cities["en"]]
        pool += [made_up_word(rng) for _ in range(400)]
        pool += [made_up_place(talk, words, language, rng) for _ in range(1200)]
    pool = list(dict.fromkeys(pool))
    rng.shuffle(pool)
    return pool


def _find_place(talk: ToolTalk, language: str, pool: list[str], rng: random.Random) -> Turn:
    kind = talk.kinds[rng.choice(KINDS)]
    length = 1 if language == "en" else rng.randint(2, 4)
    place = "".join(rng.sample(pool, length))
    pattern = rng.choice((*kind[language]["often"], *kind[language]["ask"]))
    arguments = {rng.choice(kind["parameters"]): place}
    answer = json.dumps(arguments, ensure_ascii=False)
    return Turn(fill(expand(pattern, rng), {"city": place}), answer, "place")
