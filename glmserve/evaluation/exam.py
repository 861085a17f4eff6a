"""Multiple-choice exams in CSV files, in the formats of C-Eval, CMMLU and MMLU."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.errors import OptionError
from glmserve.evaluation.language import is_chinese

OWN_EXAM = EMBEDDED_CHECKPOINT.parent / "evaluation" / "exam.csv"
"""The exam that ships with glmserve: questions that glm-tiny was trained to answer."""

_SPLIT = re.compile(r"_(val|dev|test)$")
"""What the names of files say beside the subject."""
_MMLU_HEADER = ["question", "a", "b", "c", "d", "answer"]
"""The columns of MMLU's files, which do not name them."""


@dataclass(frozen=True)
class Question:
    """A question, its options by letter from A on, and the index of the right one."""

    text: str
    options: tuple[str, ...]
    answer: int

    @property
    def letters(self) -> str:
        """The letters of the options."""
        return ascii_uppercase[: len(self.options)]


@dataclass(frozen=True)
class Exam:
    """The questions of one file; there is at least one."""

    subject: str
    questions: list[Question]

    @property
    def is_chinese(self) -> bool:
        """The language of the instructions around the questions."""
        return is_chinese("".join(question.text for question in self.questions))


def read_exam(path: Path, most: int | None = None) -> Exam:
    """Read a file. The header may be missing, as in MMLU; further columns are ignored.

    Args:
        most: read no more than so many questions; None: all.

    Raises:
        OptionError: the file cannot be read, or is no exam with answers.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            questions = list(_questions(path, csv.reader(file, strict=True), most))
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: is no CSV file in UTF-8: {error}") from None
    if not questions:
        raise OptionError(f"{path}: has no question")
    return Exam(subject_of(path), questions)


def subject_of(path: Path) -> str:
    """The subject that a file's name gives: law of law_val.csv."""
    return _SPLIT.sub("", path.stem)


def _questions(path: Path, rows: Iterator[list[str]], most: int | None) -> Iterator[Question]:
    header: Sequence[str] | None = None
    count = 0
    for number, row in enumerate(rows, 1):
        if count == most:
            return
        if not any(cell.strip() for cell in row):
            continue
        place = f"{path}, row {number}"
        if header is None:
            header = [cell.strip().lower() for cell in row]
            if {"question", "a", "b", "answer"} <= set(header):
                continue
            if len(row) != len(_MMLU_HEADER):
                raise OptionError(f"{place}: has no columns question, A, B, ... and answer")
            header = _MMLU_HEADER
        if len(row) != len(header):
            raise OptionError(f"{place}: has {len(row)} cells instead of {len(header)}")
        yield _question(place, dict(zip(header, map(str.strip, row), strict=True)))
        count += 1


def _question(place: str, cells: dict[str, str]) -> Question:
    options: list[str] = []
    for letter in ascii_uppercase.lower():
        if letter not in cells:
            break
        options.append(cells[letter])
    names = ["question", *ascii_uppercase[: len(options)]]
    for name, cell in zip(names, [cells["question"], *options], strict=True):
        if not cell:
            raise OptionError(f"{place}: {name} is empty")
    answer = cells["answer"].upper()
    letters = ascii_uppercase[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise OptionError(
            f"{place}: the answer is {answer!r}, and none of {', '.join(letters)}; use a file "
            "with answers, such as C-Eval's val"
        )
    return Question(cells["question"], tuple(options), letters.index(answer))
