"""`glmserve bench exam`: glm-tiny's own exam, marks, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from glmserve.cli.exam_report import Accuracy, AnsweredExam, ExamReport
from glmserve.cli.main import main
from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.evaluation.exam import OWN_EXAM, Exam, Question, read_exam

CPU = ("--device", "cpu", "--dtype", "float32")


def examine(*arguments: str | Path) -> int:
    """Run the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as end:
        main(["bench", "exam", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


def likelihood_by_weights(question: str, answer: str) -> float:
    """By a forward pass of its own, of the prompt that the tokenizer's words make."""
    import numpy as np

    from glmserve.text import load_tokenizer
    from glmserve.text.chat_format import ChatMessage
    from glmserve.text.templates.selection import ChatOptions, select_format
    from support.paged_model import PagedModel

    tokenizer = load_tokenizer(EMBEDDED_CHECKPOINT)
    chat = select_format(EMBEDDED_CHECKPOINT, tokenizer, ChatOptions(None)).chat
    assert chat is not None
    prompt = chat.render([ChatMessage("user", question)])
    ids = prompt + tokenizer.encode(answer)
    logits = PagedModel(EMBEDDED_CHECKPOINT).logits(ids).astype(np.float64)
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return float(sum(logprobs[i - 1, ids[i]] for i in range(len(prompt), len(ids))))


def test_the_exam_that_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert examine(*CPU, "--threshold", "80", "--json", file) == 0
    device, header, row = capsys.readouterr().out.splitlines()
    assert device.endswith("float32; by text")
    assert header.split() == ["questions", "right", "accuracy", "+-", "chance"]
    found = json.loads(file.read_text())
    assert found["all"] == found["subjects"]["exam"]
    assert found["all"]["right"] >= 20
    assert found["all"]["chance"] == 25
    assert row.split()[:3] == ["exam", "24", str(found["all"]["right"])]


@pytest.mark.slow
def test_log_likelihoods_are_those_of_the_weights(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert examine(*CPU, "--num-questions", "1", "--json", file) == 0
    (found,) = json.loads(file.read_text())["questions"]
    question = read_exam(OWN_EXAM).questions[0]
    for score, option in zip(found["log_likelihoods"], question.options, strict=True):
        assert score == pytest.approx(likelihood_by_weights(question.text, option), abs=1e-3)


def test_several_files_with_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count in {"law_val": 3, "law_dev": 2, "art_val": 1, "art_dev": 2}.items():
        rows = "".join(f"{name} {i}?,1,2,3,4,A\n" for i in range(count))
        (tmp_path / f"{name}.csv").write_text("question,A,B,C,D,answer\n" + rows)
    files = [tmp_path / "law_val.csv", tmp_path / "art_val.csv"]
    shots = ("--examples", tmp_path, "--shots", "2")
    for way in ((), ("--raw",)):
        assert examine(*files, *shots, *way, "--device", "null") == 0
        device, _, law, art, total = capsys.readouterr().out.splitlines()
        assert device.endswith("; by letter")
        assert law.split()[:2] == ["law", "3"]
        assert art.split()[:2] == ["art", "1"]
        assert total.split()[:2] == ["all", "4"]
    assert examine(*files, "--examples", tmp_path, "--device", "null") == 2
    assert "law_dev.csv: has 2 examples; lower --shots 5" in capsys.readouterr().err


def report_of(scores: list[list[float]], *, by_text: bool) -> ExamReport:
    questions = [Question("?", ("long answer", "no"), 0) for _ in scores]
    report = ExamReport(1, by_text=by_text)
    report.add(AnsweredExam(Exam("x", questions), scores))
    return report


def test_marks(capsys: pytest.CaptureFixture[str]) -> None:
    """-5.5 is half a nat a character of the first option, and -4 two of the second."""
    assert report_of([[-5.5, -4.0]], by_text=True).exit_code(100) == 0
    assert report_of([[-5.5, -4.0]], by_text=False).exit_code(1) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "the accuracy is 0.00, below 1"
    half = report_of([[-1.0, -2.0], [-2.0, -1.0]], by_text=False)
    assert half.exit_code(50) == 0
    assert half.exit_code(51) == 1


def test_the_standard_error_is_that_of_a_mean() -> None:
    marks = [100] * 3 + [0] * 2
    mean = sum(marks) / 5
    variance = sum((mark - mean) ** 2 for mark in marks) / (5 - 1)
    assert Accuracy(3, 5, 25).standard_error == pytest.approx(math.sqrt(variance / 5))
    assert Accuracy(1, 1, 25).standard_error is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nowhere.csv", "nowhere.csv: No such file"),
        ("--checkpoint {goldens}/glm1_base", "reads texts in both directions"),
        ("--by sound", "invalid choice"),
        ("--threshold -1", "-1 is not between 0 and 100"),
        ("--examples nowhere", "nowhere: No such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = Path(__file__).parents[1] / "goldens"
    assert examine(*arguments.format(goldens=goldens).split(), "--device", "null") == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.splitlines()) == 1
