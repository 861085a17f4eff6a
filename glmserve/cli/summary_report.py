"""The table and the JSON of `glmserve bench summarize`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glmserve.evaluation.articles import Article
from glmserve.evaluation.rouge import Rouge, RougeScores

_CHANCE = "chance"


@dataclass(frozen=True)
class Summaries:
    """What one engine wrote, and how long it took."""

    name: str
    about: str
    """Device and number format."""
    texts: list[str]
    """Of each article."""
    output_tokens: int
    """Of all texts."""
    seconds: float
    """For all texts together, without loading."""


class SummaryReport:
    """Scores the summaries of several engines.

    Args:
        path: the file of the articles, which the report names.
    """

    def __init__(self, path: Path, articles: Sequence[Article], rouge: Rouge) -> None:
        self._path = path
        self._articles = articles
        self._references = [article.reference for article in articles]
        self._rouge = rouge
        self._rows: list[tuple[Summaries, RougeScores]] = []
        self._chance: RougeScores | None = None

    def add(self, summaries: Summaries) -> None:
        """Score an engine. The first one is what the threshold and chance are about."""
        if not self._rows:
            self._chance = self._rouge.chance(self._references, summaries.texts)
        self._rows.append((summaries, self._rouge.mean(self._references, summaries.texts)))

    def print(self) -> None:
        """The table."""
        for summaries, _ in self._rows:
            print(f"{summaries.name}: {summaries.about}")
        print(f"{len(self._articles)} articles of {self._path}")
        width = max(len(_CHANCE), *(len(summaries.name) for summaries, _ in self._rows))
        print(
            f"{'':{width}}{'ROUGE-1':>9}{'ROUGE-2':>9}{'ROUGE-L':>9}"
            f"{'seconds':>11}{'tokens/s':>10}{'articles/s':>12}"
        )
        for summaries, scores in self._rows:
            print(f"{summaries.name:{width}}{_columns(scores)}{_speed(summaries)}")
        if self._chance is not None:
            print(f"{_CHANCE:{width}}{_columns(self._chance)}")
        if len(self._rows) > 1:
            print(f"the same summary from both: {self._num_same} of {len(self._articles)}")

    def write(self, path: Path) -> None:
        """Write scores, times and texts as JSON."""
        engines = [
            {
                "name": summaries.name,
                "about": summaries.about,
                **asdict(scores),
                "seconds": summaries.seconds,
                "output_tokens": summaries.output_tokens,
            }
            for summaries, scores in self._rows
        ]
        found: dict[str, Any] = {
            "file": str(self._path),
            "engines": engines,
            "chance": None if self._chance is None else asdict(self._chance),
            "articles": [
                {
                    "article": article.text,
                    "reference": article.reference,
                    "summaries": [summaries.texts[index] for summaries, _ in self._rows],
                }
                for index, article in enumerate(self._articles)
            ],
        }
        text = json.dumps(found, ensure_ascii=False, indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    def exit_code(self, threshold: float | None) -> int:
        """1 if ROUGE-1 of the first engine is below the threshold, else 0."""
        score = self._rows[0][1].rouge1
        if threshold is None or score >= threshold:
            return 0
        print(f"ROUGE-1 is {score:.2f}, below {threshold:g}")
        return 1

    @property
    def _num_same(self) -> int:
        one, other = (summaries.texts for summaries, _ in self._rows[:2])
        return sum(a.strip() == b.strip() for a, b in zip(one, other, strict=True))


def _columns(scores: RougeScores) -> str:
    return f"{scores.rouge1:9.2f}{scores.rouge2:9.2f}{scores.rouge_l:9.2f}"


def _speed(summaries: Summaries) -> str:
    rates = (summaries.output_tokens, len(summaries.texts))
    tokens, articles = (count / summaries.seconds for count in rates)
    return f"{summaries.seconds:11.2f}{tokens:10.1f}{articles:12.2f}"
