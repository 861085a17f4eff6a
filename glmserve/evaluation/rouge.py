"""ROUGE: how much of a reference a summary has, and how much of the summary the reference has.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". The counting is that of the
package rouge-score; only the words of Chinese are ours, because that package drops them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from glmserve.errors import OptionError
from glmserve.evaluation.language import HAN

_KINDS = ("rouge1", "rouge2", "rougeL")
_MOST_ROTATIONS = 5

_CHARACTER = re.compile(f"([{HAN}\u3040-\u30ff])")
"""A character that is a word by itself: Chinese, and kana; no punctuation."""


@dataclass(frozen=True)
class RougeScores:
    """Means over all summaries of the F-measure, in per cent: 0 to 100."""

    rouge1: float
    """Of single words; in Chinese of characters."""
    rouge2: float
    """Of pairs of words."""
    rouge_l: float
    """Of the longest common subsequence of words."""


class Rouge:
    """Scores texts.

    Raises:
        OptionError: the package rouge-score is missing.
    """

    def __init__(self) -> None:
        try:
            from rouge_score.rouge_scorer import RougeScorer
            from rouge_score.tokenize import tokenize
        except ImportError as error:
            raise OptionError(
                f"ROUGE: {error}; install it with pip install 'glmserve[rouge]'"
            ) from None
        words = _Words(lambda text: tokenize(text, None))
        self._scorer: Any = RougeScorer(list(_KINDS), tokenizer=words)

    def mean(self, references: Sequence[str], texts: Sequence[str]) -> RougeScores:
        """The scores of texts, each with its reference. There is at least one."""
        found = [self._scorer.score(*pair) for pair in zip(references, texts, strict=True)]
        means = (sum(score[kind].fmeasure for score in found) / len(found) for kind in _KINDS)
        return RougeScores(*(100 * mean for mean in means))

    def chance(self, references: Sequence[str], texts: Sequence[str]) -> RougeScores | None:
        """What texts about the same things score without their article: each with the references of
        others, up to five in turn. None if there is only one."""
        count = len(texts)
        rotations = range(1, min(count, _MOST_ROTATIONS + 1))
        if not rotations:
            return None
        return self.mean(
            [references[(i + by) % count] for by in rotations for i in range(count)],
            [text for _ in rotations for text in texts],
        )


class _Words:
    """The tokenizer of rouge-score, without stems, for text in which Chinese may occur.

    Args:
        tokenize: the words of a text without Chinese.
    """

    def __init__(self, tokenize: Callable[[str], list[str]]) -> None:
        self._tokenize = tokenize

    def tokenize(self, text: str) -> list[str]:
        """The words in order; each Chinese character is one."""
        return list(self._words(text))

    def _words(self, text: str) -> Iterator[str]:
        for index, part in enumerate(_CHARACTER.split(text)):
            if index % 2:
                yield part
            elif part:
                yield from self._tokenize(part)
