"""ROUGE: rouge-score's own numbers for English, characters as words for Chinese."""

from __future__ import annotations

import sys

import pytest

from glmserve.errors import OptionError
from glmserve.evaluation.rouge import Rouge

REFERENCE = "The little robot counted the raindrops for 3 years."
SUMMARY = "A little robot counts raindrops, and it counted for years and years!"


@pytest.fixture(scope="module")
def rouge() -> Rouge:
    pytest.importorskip("rouge_score", reason="the rouge extra is missing")
    return Rouge()


def test_english_is_scored_as_the_package_does(rouge: Rouge) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    theirs = RougeScorer(kinds).score(REFERENCE, SUMMARY)
    found = rouge.mean([REFERENCE], [SUMMARY])
    assert [found.rouge1, found.rouge2, found.rouge_l] == pytest.approx(
        [100 * theirs[kind].fmeasure for kind in kinds]
    )
    assert 0 < found.rouge2 < found.rouge_l < found.rouge1 < 100


def test_chinese_is_scored_by_characters(rouge: Rouge) -> None:
    """小 猫 睡 觉 GPU, and 小 猫 在 睡: they share 3 of 5 and 4 words, and 1 of 4 and 3 pairs."""
    found = rouge.mean(["小猫睡觉，GPU。"], ["小猫在睡！"])
    assert found.rouge1 == pytest.approx(100 * 2 * 3 / (5 + 4))
    assert found.rouge2 == pytest.approx(100 * 2 * 1 / (4 + 3))
    assert found.rouge_l == pytest.approx(100 * 2 * 3 / (5 + 4))


def test_scores_are_means_over_texts(rouge: Rouge) -> None:
    assert rouge.mean(["a b", "c d"], ["a b", "e f"]).rouge1 == pytest.approx(50)
    assert rouge.mean(["a"], [""]).rouge1 == 0


def test_chance_pairs_texts_with_the_references_of_others(rouge: Rouge) -> None:
    chance = rouge.chance(["a b", "b c", "d e"], ["a b", "b c", "d e"])
    assert chance is not None
    assert chance.rouge1 == pytest.approx(100 * (2 * 0.5) / 6)  # two of six pairs share a word
    assert rouge.chance(["a"], ["a"]) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(OptionError, match=r"pip install 'glmserve\[rouge\]'"):
        Rouge()
