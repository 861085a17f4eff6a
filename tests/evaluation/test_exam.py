"""Exams in CSV files, and what a model reads of their questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.errors import OptionError
from glmserve.evaluation.exam import OWN_EXAM, Exam, Question, read_exam
from glmserve.evaluation.exam_prompts import ExamPrompts

ONE = Question("1+1?", ("1", "2", "3", "4"), 1)
TWO = Question("2+2?", ("4", "5", "6", "7"), 0)
FORMATS = {
    "C-Eval": "id,question,A,B,C,D,answer,explanation\n0,1+1?,1,2,3,4,B,two\n1,2+2?,4,5,6,7,A,\n",
    "CMMLU": ",Question,A,B,C,D,Answer\n0,1+1?,1,2,3,4,B\n\n1,2+2?,4,5,6,7,A\n",
    "MMLU": '1+1?,1,2,3,4,B\n"2+2?",4,5,6,7,A\n',
    "a byte order mark": "\ufeffquestion,A,B,C,D,answer\n1+1?,1,2,3,4,b\n2+2?, 4,5,6,7,A\n",
}


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_the_usual_formats_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "sums_of_two_val.csv").write_text(text, encoding="utf-8")
    exam = read_exam(tmp_path / "sums_of_two_val.csv")
    assert exam == Exam("sums_of_two", [ONE, TWO])
    assert read_exam(tmp_path / "sums_of_two_val.csv", 1).questions == [ONE]


def test_options_may_be_more_or_fewer_than_four(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("question,A,B,answer\nyes?,yes,no,A\n")
    assert read_exam(tmp_path / "x.csv").questions[0].letters == "AB"
    (tmp_path / "x.csv").write_text("question,A,B,C,D,E,answer\n?,1,2,3,4,5,E\n")
    assert read_exam(tmp_path / "x.csv").questions[0].answer == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no question"),
        ("question,A,B,C,D,answer\n", "has no question"),
        ("question,A,B\nx,1,2\n", "row 1: has no columns question, A, B, ... and answer"),
        ("question,A,B,answer\nx,1,2\n", "row 2: has 3 cells instead of 4"),
        ("question,A,B,answer\nx,1,,A\n", "row 2: B is empty"),
        ("question,A,B,answer\n,1,2,A\n", "row 2: question is empty"),
        ("question,A,B,answer\nx,1,2,\n", "row 2: the answer is '', and none of A, B"),
        ("question,A,B,answer\nx,1,2,C\n", "the answer is 'C', and none of A, B"),
        ('question,A,B,answer\n"x,1,2,C\n', "is no CSV file"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(OptionError, match=said):
        read_exam(tmp_path / "x.csv")


def test_a_question_by_letter() -> None:
    prompts = ExamPrompts(Exam("sums_of_two", [ONE]), "letter", [TWO])
    begin = "The following are multiple choice questions (with answers) about sums of two.\n\n"
    example = "2+2?\nA. 4\nB. 5\nC. 6\nD. 7\nAnswer:"
    question = "1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    assert prompts.conversation(ONE) == [
        ("user", begin + example),
        ("assistant", "A"),
        ("user", question),
    ]
    assert prompts.answers(ONE) == ["A", "B", "C", "D"]
    assert prompts.text(ONE) == (
        f"{begin}{example} A\n\n{question}",
        [" A", " B", " C", " D"],
    )


def test_a_question_in_chinese() -> None:
    question = Question("一加一等于几？", ("一", "二"), 1)
    prompts = ExamPrompts(Exam("数学", [question]), "letter", [])
    text = (
        "以下是关于数学的单项选择题，请选出其中的正确答案。\n\n一加一等于几？\nA. 一\nB. 二\n答案："
    )
    assert prompts.conversation(question) == [("user", text)]
    assert prompts.text(question) == (text, ["A", "B"])


def test_a_question_by_text_does_not_show_the_options() -> None:
    prompts = ExamPrompts(Exam("sums", [ONE]), "text", [TWO])
    assert prompts.conversation(ONE) == [("user", "2+2?"), ("assistant", "4"), ("user", "1+1?")]
    assert prompts.text(ONE) == (
        "Question: 2+2?\nAnswer: 4\n\nQuestion: 1+1?\nAnswer:",
        [" 1", " 2", " 3", " 4"],
    )


def test_the_right_answers_of_the_exam_that_ships_are_spread() -> None:
    answers = [question.answer for question in read_exam(OWN_EXAM).questions]
    assert max(map(answers.count, range(4))) <= len(answers) // 4
