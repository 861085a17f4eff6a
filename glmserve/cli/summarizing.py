"""Lets engines sum up articles, for `glmserve bench summarize`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from glmserve.api.answering.context import ServerContext
from glmserve.cli.summary_report import Summaries, SummaryReport
from glmserve.cli.transformers_process import answer_with_transformers, check_transformers
from glmserve.config import TransformersTask
from glmserve.embedded.async_llm import AsyncLLM
from glmserve.embedded.results import ChatCompletion
from glmserve.errors import StartupError
from glmserve.evaluation.articles import LETTERS, PLACE, read_articles
from glmserve.evaluation.rouge import Rouge
from glmserve.text.thoughts import ThoughtSplitter, begins_in_thoughts

_WARM_UP_TOKENS = 8
_TORCH_DTYPES = ("float32", "float16", "bfloat16")


async def summarize(options: argparse.Namespace) -> int:
    """Sum up, and print the scores; returns the exit code.

    Raises:
        OptionError: the articles cannot be read, or a package is missing.
        GlmserveError: a model cannot be loaded, or an article not be summed up.
    """
    path = options.articles or LETTERS
    articles = read_articles(path, options.num_articles)
    report = SummaryReport(path, articles, Rouge())
    if options.against == "transformers":
        check_transformers()
    template = PLACE if options.prompt is None and options.articles is None else options.prompt
    failure: StartupError | None = None
    run = _Run(options, [article.request(template) for article in articles])
    report.add(await run.by_glmserve("glmserve", options.checkpoint))
    try:
        if options.against == "transformers":
            report.add(await run.by_transformers())
        elif options.against is not None:
            report.add(await run.by_glmserve(str(options.against), options.against))
    except StartupError as error:
        failure = error  # the table is worth printing all the same
    report.print()
    if options.json is not None:
        report.write(options.json)
    if failure is not None:
        raise failure
    return report.exit_code(options.rouge1_threshold)


class _Run:
    """Gives the same requests to one engine after the other.

    Args:
        requests: what the user says, for each article.
    """

    def __init__(self, options: argparse.Namespace, requests: list[str]) -> None:
        self._options = options
        self._requests = requests
        self._answers: list[ChatCompletion] = []
        self._context: ServerContext | None = None
        """Of the last server; its tokenizer outlives it."""

    async def by_glmserve(self, name: str, checkpoint: object) -> Summaries:
        """Sum up with a checkpoint, as many articles at a time as the batch has places."""
        given = vars(self._options)
        options = argparse.Namespace(
            **{**given, "checkpoint": checkpoint, "max_batch_size": self._options.batch_size}
        )
        async with AsyncLLM.of_command(options) as llm:
            fields: dict[str, Any] = {
                "temperature": 0,
                "repetition_penalty": 1,
                "return_token_ids": True,
            }
            await llm.chat("Hello!", max_tokens=_WARM_UP_TOKENS, **fields)
            begin = time.perf_counter()
            self._answers = await llm.chat(
                self._requests, max_tokens=self._options.max_tokens, **fields
            )
            seconds = time.perf_counter() - begin
            self._context = llm.server.context
        info = self._context.engine.info
        return Summaries(
            name,
            f"{info.device}, {info.dtype}",
            [answer.text for answer in self._answers],
            sum(answer.usage.completion_tokens for answer in self._answers),
            seconds,
        )

    async def by_transformers(self) -> Summaries:
        """Sum up with transformers, from the very tokens that glmserve had before."""
        context, options = self._context, self._options
        assert context is not None
        assert context.tokenizer is not None
        assert context.chat_format is not None
        dtype = context.engine.info.dtype.split()[0].rstrip(",")
        prompts = [answer.prompt_token_ids or [] for answer in self._answers]
        task = TransformersTask(
            checkpoint=str(options.checkpoint),
            ptuning_checkpoint=options.ptuning_checkpoint and str(options.ptuning_checkpoint),
            rope_scaling=options.rope_scaling,
            device=options.device,
            dtype=dtype if dtype in _TORCH_DTYPES else "float32",  # type: ignore[arg-type]
            threads=options.threads,
            prompts=prompts,
            max_tokens=options.max_tokens,
            batch_size=options.batch_size,
            stop_ids=sorted({*context.chat_format.stop_ids, *context.model.eos_token_ids}),
        )
        found = await answer_with_transformers(task, debug=options.debug)
        return Summaries(
            "transformers",
            found.about,
            [_text(context, *pair) for pair in zip(prompts, found.token_ids, strict=True)],
            sum(map(len, found.token_ids)),
            found.seconds,
        )


def _text(context: ServerContext, prompt_ids: list[int], token_ids: list[int]) -> str:
    """What tokens say, without thoughts before it."""
    assert context.tokenizer is not None
    text = context.tokenizer.decode(token_ids)
    if context.chat_format is None or not context.chat_format.reasons:
        return text.lstrip()
    splitter = ThoughtSplitter(is_open=begins_in_thoughts(context.tokenizer, prompt_ids))
    return splitter.push(text)[1] + splitter.flush()[1]
