"""Answers the prompts of `glmserve generate`, all at once, and measures how long that takes."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from glmserve.cli.generate import ADAPTER
from glmserve.cli.generated_texts import GrowingAnswer, Printer
from glmserve.cli.prompts import random_prompts
from glmserve.embedded.async_llm import AsyncLLM
from glmserve.embedded.many import one_error
from glmserve.evaluation.throughput import Timing
from glmserve.model_config import read_model_config


async def generate(options: argparse.Namespace, texts: list[str]) -> None:
    """Answer the prompts, and print the answers.

    Args:
        texts: the prompts; none: random prompts of --input-tokens, and no text is printed.

    Raises:
        GlmserveError: the model cannot be loaded, or a prompt not be answered.
    """
    prompts: list[Any] = list(texts)
    if not texts:
        prefix = str(options.ptuning_checkpoint) if options.ptuning_checkpoint else None
        model = read_model_config(options.checkpoint, options.rope_scaling, prefix)
        prompts = list(random_prompts(options, model))
        options.skip_tokenizer_init = True
    options.max_batch_size = len(prompts) * options.n
    answers = [GrowingAnswer(options.n) for _ in prompts]
    printer = None
    if texts:
        has_logprobs = options.logprobs is not None
        printer = Printer(texts, answers, as_json=options.json, has_logprobs=has_logprobs)
    async with AsyncLLM.of_command(options) as llm:
        timing = await _answer_all(llm, options, prompts, answers, printer)
        if printer is not None:
            printer.finish()
        if options.report:
            info = llm.server.context.engine.info
            print(f"device: {info.device}, {info.dtype}")
            print("\n".join(timing.lines()))


async def _answer_all(
    llm: AsyncLLM,
    options: argparse.Namespace,
    prompts: list[Any],
    answers: list[GrowingAnswer],
    printer: Printer | None,
) -> Timing:
    """Answer all prompts at once, and measure how long that takes."""
    is_chat = not options.raw and printer is not None
    fields = _fields(options, is_chat=is_chat)
    begin = first = time.perf_counter()

    async def follow(prompt: Any, answer: GrowingAnswer) -> None:
        nonlocal first
        stream = llm.stream_chat if is_chat else llm.stream
        async for chunk in stream(prompt, **fields):
            had_begun = answer.has_begun
            new = answer.add(chunk)
            if not had_begun and answer.has_begun:
                first = time.perf_counter()
            if printer is not None:
                printer.add(new)

    async with one_error(), asyncio.TaskGroup() as group:
        for prompt, answer in zip(prompts, answers, strict=True):
            group.create_task(follow(prompt, answer))
    end = time.perf_counter()
    usages = [answer.usage for answer in answers if answer.usage is not None]
    return Timing(
        len(prompts) * options.n,
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        first - begin,
        end - first,
    )


def _fields(options: argparse.Namespace, *, is_chat: bool) -> dict[str, Any]:
    """The fields of each request."""
    fields: dict[str, Any] = {
        "max_tokens": options.max_tokens,
        "ignore_eos": options.constant_output,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "n": options.n,
        "stop": options.stop,
        "return_token_ids": True,
        "adapter": ADAPTER if options.adapter else None,
    }
    if options.logprobs is not None and is_chat:
        return {**fields, "logprobs": True, "top_logprobs": options.logprobs}
    return {**fields, "logprobs": options.logprobs}
