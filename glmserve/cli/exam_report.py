"""The table and the JSON of `glmserve bench exam`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmserve.evaluation.exam import Exam, Question

_ALL = "all"


@dataclass(frozen=True)
class AnsweredExam:
    """An exam, and the log-likelihoods of the possible answers to each question, in nats."""

    exam: Exam
    log_likelihoods: list[list[float]]


@dataclass(frozen=True)
class Accuracy:
    """How many questions were answered rightly."""

    num_right: int
    num_questions: int
    chance: float
    """Expected share of right answers of a guess, in per cent."""

    @property
    def percent(self) -> float:
        """0 to 100."""
        return 100 * self.num_right / self.num_questions

    @property
    def standard_error(self) -> float | None:
        """Of the mean, in per cent, from the sample's variance; None with a single question."""
        if self.num_questions < 2:
            return None
        share = self.num_right / self.num_questions
        return 100 * math.sqrt(share * (1 - share) / (self.num_questions - 1))


class ExamReport:
    """Prints a line for each exam, as it comes.

    Args:
        width: length of the longest subject.
        by_text: log-likelihoods are compared a character, because options have different lengths.
    """

    def __init__(self, width: int, *, by_text: bool) -> None:
        self._width = max(width, len(_ALL))
        self._by_text = by_text
        self._exams: list[tuple[Exam, Accuracy]] = []
        self._answers: list[dict[str, Any]] = []

    def print_header(self) -> None:
        """The names of the columns."""
        names = f"{'questions':>11}{'right':>7}{'accuracy':>10}{'+-':>7}{'chance':>8}"
        print(f"{'':{self._width}}{names}")

    def add(self, answered: AnsweredExam) -> None:
        """Mark an exam."""
        exam = answered.exam
        num_right = 0
        for question, scores in zip(exam.questions, answered.log_likelihoods, strict=True):
            chosen = self._choice(question, scores)
            num_right += chosen == question.answer
            self._answers.append(
                {
                    "subject": exam.subject,
                    "question": question.text,
                    "answer": question.letters[question.answer],
                    "chosen": question.letters[chosen],
                    "log_likelihoods": scores,
                }
            )
        guesses = sum(100 / len(question.options) for question in exam.questions)
        count = len(exam.questions)
        accuracy = Accuracy(num_right, count, guesses / count)
        self._exams.append((exam, accuracy))
        self._print(exam.subject, accuracy)

    def print_total(self) -> None:
        """A line for all questions together, if there are several exams."""
        if len(self._exams) > 1:
            self._print(_ALL, self._total)

    def write(self, path: Path) -> None:
        """Write accuracies and answers as JSON."""
        found = {
            "all": _as_object(self._total),
            "subjects": {exam.subject: _as_object(accuracy) for exam, accuracy in self._exams},
            "questions": self._answers,
        }
        text = json.dumps(found, ensure_ascii=False, indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    def exit_code(self, threshold: float | None) -> int:
        """1 if the accuracy over all questions is below the threshold, else 0."""
        percent = self._total.percent
        if threshold is None or percent >= threshold:
            return 0
        print(f"the accuracy is {percent:.2f}, below {threshold:g}")
        return 1

    @property
    def _total(self) -> Accuracy:
        found = [accuracy for _, accuracy in self._exams]
        count = sum(each.num_questions for each in found)
        guesses = sum(each.chance * each.num_questions for each in found)
        return Accuracy(sum(each.num_right for each in found), count, guesses / count)

    def _choice(self, question: Question, scores: list[float]) -> int:
        """The index of the most likely option; the first of several."""
        if self._by_text:
            pairs = zip(scores, question.options, strict=True)
            scores = [score / len(option) for score, option in pairs]
        return scores.index(max(scores))

    def _print(self, name: str, accuracy: Accuracy) -> None:
        error = accuracy.standard_error
        shown = "-" if error is None else f"{error:.2f}"
        print(
            f"{name:{self._width}}{accuracy.num_questions:11}{accuracy.num_right:7}"
            f"{accuracy.percent:10.2f}{shown:>7}{accuracy.chance:8.2f}",
            flush=True,
        )


def _as_object(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "questions": accuracy.num_questions,
        "right": accuracy.num_right,
        "accuracy": accuracy.percent,
        "standard_error": accuracy.standard_error,
        "chance": accuracy.chance,
    }
