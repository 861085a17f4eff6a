"""What a model reads of a question, and what it may answer.

By letter, the wording is that of MMLU's and C-Eval's authors. By text, the options are not shown:
each is an answer of its own, so that a model need not know what letters stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from glmserve.evaluation.exam import Exam, Question

By = Literal["letter", "text"]


class ExamPrompts:
    """Writes the questions of an exam.

    Args:
        examples: questions that are answered before each question.
    """

    def __init__(self, exam: Exam, by: By, examples: Sequence[Question]) -> None:
        self._by = by
        self._examples = examples
        self._is_chinese = exam.is_chinese
        subject = exam.subject.replace("_", " ")
        self._heading = ""
        if by == "letter":
            self._heading = (
                f"以下是关于{subject}的单项选择题，请选出其中的正确答案。\n\n"
                if self._is_chinese
                else f"The following are multiple choice questions (with answers) about {subject}."
                "\n\n"
            )

    def answers(self, question: Question) -> list[str]:
        """The possible answers, in order."""
        return list(question.letters if self._by == "letter" else question.options)

    def conversation(self, question: Question) -> list[tuple[str, str]]:
        """Roles and contents of the messages that end with the question."""
        messages: list[tuple[str, str]] = []
        for example in self._examples:
            messages.append(("user", self._asked(example)))
            messages.append(("assistant", self.answers(example)[example.answer]))
        messages.append(("user", self._asked(question)))
        first_role, first = messages[0]
        return [(first_role, self._heading + first), *messages[1:]]

    def text(self, question: Question) -> tuple[str, list[str]]:
        """The same as a text to continue, and the possible continuations."""
        space = "" if self._is_chinese else " "
        before = "".join(
            f"{self._written(example)}{space}{self.answers(example)[example.answer]}\n\n"
            for example in self._examples
        )
        prompt = self._heading + before + self._written(question)
        return prompt, [space + answer for answer in self.answers(question)]

    def _asked(self, question: Question) -> str:
        return question.text if self._by == "text" else self._written(question)

    def _written(self, question: Question) -> str:
        end = "答案：" if self._is_chinese else "Answer:"
        if self._by == "text":
            begin = "问题：" if self._is_chinese else "Question: "
            return f"{begin}{question.text}\n{end}"
        pairs = zip(question.letters, question.options, strict=True)
        options = "".join(f"{letter}. {option}\n" for letter, option in pairs)
        return f"{question.text}\n{options}{end}"
