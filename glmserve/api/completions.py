"""POST /v1/completions"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.body import read_request
from glmserve.api.cached import through_cache
from glmserve.api.choices import Generation, WholeText
from glmserve.api.completion_objects import Completion, CompletionChoice, LegacyLogprobs
from glmserve.api.context import ServerContext, context_of
from glmserve.api.generation import Job, encode_prompts, room_for_output, start
from glmserve.api.journaling.asked import Asked
from glmserve.api.journaling.through import through_journal
from glmserve.api.logprobs import CompletionLogprobs
from glmserve.api.offload import offload
from glmserve.api.protocol import CompletionRequest
from glmserve.api.protocol.prompts import MAX_PROMPTS
from glmserve.api.responses import json_response
from glmserve.api.sse import DONE, event, streamed
from glmserve.api.structured import compile_structure, wanted_structure
from glmserve.errors import InvalidRequestError
from glmserve.text.text_stream import ScoredToken, TextStream

_DEFAULT_MAX_TOKENS = 16  # OpenAI's


async def completions(request: Request) -> Response:
    """Continue one or several prompts, streamed or whole."""
    context = context_of(request)
    completion = await read_request(request, CompletionRequest)
    context.check_model(completion.model)
    _check_choices(completion)

    async def answer(asked: Asked) -> Response:
        return await _answer(request, context, completion, asked)

    return await through_journal(
        request, completion.stream, lambda asked: through_cache(request, completion, asked, answer)
    )


async def _answer(
    request: Request, context: ServerContext, completion: CompletionRequest, asked: Asked
) -> Response:
    prompts = await encode_prompts(context, completion.prompts, "prompt")
    generation = await _start(context, completion, prompts, asked)
    writer = _Writer(context, completion, generation)
    if completion.stream:
        return await streamed(request, generation, writer.events())
    texts = await generation.collect(request)
    num_scored = sum(map(len, prompts)) + sum(len(text.scored) for text in texts)
    size = num_scored if completion.logprobs is not None else 0
    return await offload(lambda: json_response(writer.whole(texts)), size)


def _check_choices(request: CompletionRequest) -> None:
    num_texts = len(request.prompts) * max(request.n, request.best_of or 0)
    if num_texts > MAX_PROMPTS:
        raise InvalidRequestError(
            f"prompts times choices are {num_texts} texts; at most {MAX_PROMPTS} in one request",
            "n",
        )
    if request.best_of is not None and request.best_of < request.n:
        raise InvalidRequestError(
            f"best_of ({request.best_of}) must not be less than n ({request.n})", "best_of"
        )
    if request.stream and (request.best_of or request.n) > request.n:
        raise InvalidRequestError(
            "the best of several texts is known when all are complete: best_of greater than n "
            "cannot be streamed",
            "best_of",
        )
    if request.max_tokens == 0 and not request.echo:
        raise InvalidRequestError(
            "max_tokens: 0 makes no text; with echo: true the prompt is returned", "max_tokens"
        )


async def _start(
    context: ServerContext, request: CompletionRequest, prompts: list[list[int]], asked: Asked
) -> Generation:
    stop_ids = frozenset(context.model.eos_token_ids)
    if context.tokenizer:
        stop_ids |= {context.tokenizer.eos_id}
    max_tokens = request.max_tokens
    if max_tokens is None:
        longest = max(map(len, prompts))
        max_tokens = min(_DEFAULT_MAX_TOKENS, room_for_output(context, longest))
    num_choices = request.best_of or request.n
    top_logprobs = request.logprobs
    if num_choices > request.n and top_logprobs is None:
        top_logprobs = 0  # to find the best
    job = Job(
        prompts=prompts,
        prompts_param="prompt",
        max_tokens=max_tokens,
        stop_ids=stop_ids,
        num_choices=num_choices,
        top_logprobs=top_logprobs,
        prompt_logprobs=request.logprobs if request.echo else None,
        structure=await compile_structure(context, wanted_structure(request), stop_ids, ""),
    )
    return start(context, request, job, asked)


class _Writer:
    """The response objects of one request; they share id, time and model."""

    def __init__(
        self,
        context: ServerContext,
        request: CompletionRequest,
        generation: Generation,
    ) -> None:
        self._request = request
        self._generation = generation
        self._tokenizer = context.tokenizer
        self._prompt_of = [g for g, group in enumerate(generation.groups) for _ in group]
        # Without a tokenizer there is no text: the ids are the answer.
        self._with_ids = request.return_token_ids or context.tokenizer is None
        self._head: dict[str, Any] = {
            "id": generation.identity.new_id("cmpl-"),
            "created": generation.identity.created,
            "model": request.model,
        }

    def whole(self, texts: Sequence[WholeText]) -> Completion:
        """The body of a response that is not streamed."""
        choices: list[CompletionChoice] = []
        for number in self._best(texts):
            text = texts[number]
            reason = text.stream.finish_reason
            choice = self._choice(len(choices), text.text, text.token_ids, reason)
            logprobs = self._new_logprobs()
            if self._request.echo:
                choice.text = self._prompt_text(number) + choice.text
                choice.logprobs = self._prompt_logprobs(number, logprobs)
            if logprobs is not None:
                own = logprobs.push([*text.scored, *_stop_token(text.stream)])
                choice.logprobs = choice.logprobs.joined(own) if choice.logprobs else own
            if self._with_ids:
                choice.prompt_token_ids = text.stream.request.prompt_ids
            choices.append(choice)
        return Completion(**self._head, choices=choices, usage=self._generation.usage())

    async def events(self) -> AsyncIterator[bytes]:
        """The events of a stream."""
        usage = None if self._request.include_usage else UNSET
        streams = self._generation.streams
        logprobs = [self._new_logprobs() for _ in streams]
        has_begun = [not self._request.echo] * len(streams)
        async for index, delta in self._generation.deltas():
            if not has_begun[index]:
                has_begun[index] = True
                choice = self._choice(index, self._prompt_text(index), [], None)
                choice.logprobs = self._prompt_logprobs(index, logprobs[index])
                yield event(Completion(**self._head, choices=[choice], usage=usage))
            if delta is None:
                choice = self._choice(index, "", [], streams[index].finish_reason)
                if (writer := logprobs[index]) and (last := _stop_token(streams[index])):
                    choice.logprobs = writer.push(last)
            elif delta.text or delta.scored or self._with_ids:
                choice = self._choice(index, delta.text, delta.token_ids, None)
                writer = logprobs[index]
                choice.logprobs = writer.push(delta.scored) if writer else None
            else:
                continue
            yield event(Completion(**self._head, choices=[choice], usage=usage))
        if self._request.include_usage:
            yield event(Completion(**self._head, choices=[], usage=self._generation.usage()))
        yield DONE

    def _best(self, texts: Sequence[WholeText]) -> list[int]:
        """Numbers of the texts to return: of each prompt the n most likely, or all."""
        numbers, start = [], 0
        for group in self._generation.groups:
            ranked = list(range(start, start + len(group)))
            if len(group) > self._request.n:
                ranked.sort(key=lambda number: -texts[number].mean_logprob)
            numbers += ranked[: self._request.n]
            start += len(group)
        return numbers

    def _choice(
        self, index: int, text: str, token_ids: list[int], finish_reason: str | None
    ) -> CompletionChoice:
        ids = token_ids if self._with_ids else UNSET
        return CompletionChoice(index, text, None, finish_reason, ids)

    def _new_logprobs(self) -> CompletionLogprobs | None:
        if self._request.logprobs is None:
            return None
        return CompletionLogprobs(self._tokenizer, self._request.skip_special_tokens)

    def _prompt_text(self, number: int) -> str:
        """The prompt of a choice as the client wrote it, or as its ids read."""
        prompt = self._request.prompts[self._prompt_of[number]]
        if isinstance(prompt, str):
            return prompt
        if self._tokenizer is None:
            return ""
        return self._tokenizer.decode(prompt, self._request.skip_special_tokens)

    def _prompt_logprobs(
        self, number: int, writer: CompletionLogprobs | None
    ) -> LegacyLogprobs | None:
        if writer is None:
            return None
        first = self._generation.groups[self._prompt_of[number]][0].request
        return writer.push_prompt(first.prompt_ids, first.prompt_logprobs)


def _stop_token(stream: TextStream) -> list[ScoredToken]:
    """The token that ended a text is scored with it: harnesses count on one score per token."""
    return [stream.stop_token] if stream.stop_token is not None else []
