"""Articles in JSON Lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.errors import OptionError
from glmserve.evaluation.articles import LETTERS, Article, read_articles


def test_the_usual_names_of_fields_are_known(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text(
        '{"article": "A", "highlights": "a", "id": 7}\n'
        "\n"
        '{"content": "B", "summary": "b"}\n'
        '{"document": "C", "reference": "c"}\n'
    )
    expected = [Article("A", "a"), Article("B", "b"), Article("C", "c")]
    assert read_articles(tmp_path / "some.jsonl") == expected
    assert read_articles(tmp_path / "some.jsonl", 2) == expected[:2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no article"),
        ('{"article": "A", "summary": "a"}\n[]\n', "line 2: is no JSON object"),
        ('{"article": "A"}', "line 1: has no field 'reference' \\(or summary, highlights\\)"),
        ('{"summary": "A"}', "line 1: has no field 'article'"),
        ('{"article": "A", "summary": ["a"]}', "summary must be a text"),
        ('{"article": " ", "summary": "a"}', "article must be a text that is not empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "some.jsonl").write_text(text)
    with pytest.raises(OptionError, match=said):
        read_articles(tmp_path / "some.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nowhere: No such file"):
        read_articles(tmp_path / "nowhere")


def test_the_request_is_in_the_language_of_the_article() -> None:
    assert Article("A cat.", "").request() == (
        "Summarize the following text in two or three sentences.\n\nA cat."
    )
    assert Article("glmserve 是什么？", "").request().startswith("请用两三句话")
    assert Article("A cat.", "").request("TL;DR of {article}") == "TL;DR of A cat."


def test_the_letters_that_ship_are_in_both_languages() -> None:
    requests = [letter.request() for letter in read_articles(LETTERS)]
    chinese = [request for request in requests if request.startswith("请")]
    assert 10 < len(chinese) < len(requests) - 10
