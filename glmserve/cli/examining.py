"""Lets a model sit exams, for `glmserve bench exam`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmserve.cli.exam_report import AnsweredExam, ExamReport
from glmserve.embedded.async_llm import AsyncLLM
from glmserve.embedded.results import Completion
from glmserve.errors import OptionError
from glmserve.evaluation.exam import OWN_EXAM, Exam, Question, read_exam
from glmserve.evaluation.exam_prompts import By, ExamPrompts
from glmserve.text.chat_format import ChatFormat, ChatMessage


async def examine(options: argparse.Namespace) -> int:
    """Answer all questions, and print the accuracies; returns the exit code.

    Raises:
        OptionError: a file is no exam.
        GlmserveError: the model cannot be loaded, or a question not be answered.
    """
    by: By = options.by or ("letter" if options.exams else "text")
    exams = [read_exam(path, options.num_questions) for path in options.exams or [OWN_EXAM]]
    subjects = [exam.subject for exam in exams]
    prompts = [ExamPrompts(exam, by, _examples(options, exam)) for exam in exams]
    score = _score_texts if options.raw else _score_answers
    report = ExamReport(max(map(len, subjects)), by_text=by == "text")
    async with AsyncLLM.of_command(options) as llm:
        info = llm.server.context.engine.info
        print(f"{info.device}, {info.dtype}; by {by}")
        report.print_header()
        for exam, written in zip(exams, prompts, strict=True):
            report.add(AnsweredExam(exam, await score(llm, exam, written)))
    report.print_total()
    if options.json is not None:
        report.write(options.json)
    return report.exit_code(options.threshold)


def _examples(options: argparse.Namespace, exam: Exam) -> Sequence[Question]:
    """The questions that are answered before each question.

    Raises:
        OptionError: there are fewer than --shots.
    """
    path: Path | None = options.examples
    if path is None:
        return ()
    if path.is_dir():
        path = path / f"{exam.subject}_dev.csv"
    examples = read_exam(path, options.shots).questions
    if len(examples) < options.shots:
        raise OptionError(f"{path}: has {len(examples)} examples; lower --shots {options.shots}")
    return examples


async def _score_answers(llm: AsyncLLM, exam: Exam, prompts: ExamPrompts) -> list[list[float]]:
    """Log-likelihoods of the possible answers, in a conversation, of each question."""
    chat = llm.server.context.chat_format
    assert chat is not None  # but for an option that this command does not have
    if chat.reasons:
        chat = chat.with_variables({"enable_thinking": False})
    begins: list[int] = []
    ids: list[list[int]] = []
    for question in exam.questions:
        messages = [ChatMessage(*message) for message in prompts.conversation(question)]
        answers = prompts.answers(question)
        # A format may wait for another process.
        for begin, tokens in await asyncio.to_thread(_rendered, chat, messages, answers):
            begins.append(begin)
            ids.append(tokens)
    fields: dict[str, Any] = {"max_tokens": 0, "echo": True, "logprobs": 1}
    found: list[Completion] = await llm.generate(ids, **fields)
    scores = [_log_likelihood(*pair) for pair in zip(found, begins, strict=True)]
    return _by_question(exam, scores)


def _rendered(
    chat: ChatFormat, messages: list[ChatMessage], answers: Sequence[str]
) -> list[tuple[int, list[int]]]:
    """For each answer the token ids of the conversation that ends with it, and where it begins."""
    prompt = chat.render(messages)
    found = []
    for answer in answers:
        ids = chat.render([*messages, ChatMessage("assistant", answer)], continue_last=True)
        same = (i for i, pair in enumerate(zip(prompt, ids, strict=False)) if pair[0] != pair[1])
        found.append((next(same, min(len(prompt), len(ids))), ids))
    return found


def _log_likelihood(answer: Completion, begin: int) -> float:
    """Of the tokens from `begin` on."""
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None  # they were asked for
    return sum(score for score in logprobs.token_logprobs[begin:] if score is not None)


async def _score_texts(llm: AsyncLLM, exam: Exam, prompts: ExamPrompts) -> list[list[float]]:
    """Log-likelihoods of the possible continuations of each question as a text."""
    befores: list[str] = []
    texts: list[str] = []
    for question in exam.questions:
        before, answers = prompts.text(question)
        befores += [before] * len(answers)
        texts += answers
    found = await llm.score(befores, texts)
    return _by_question(exam, [score.logprob for score in found])


def _by_question(exam: Exam, scores: list[float]) -> list[list[float]]:
    """As many scores for each question as it has options."""
    rest = iter(scores)
    return [[next(rest) for _ in question.options] for question in exam.questions]
