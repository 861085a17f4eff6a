"""Writes the answers of /v1/completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from glmserve.api.answering.failure import failure_of, openai_error
from glmserve.api.answering.generation import Choice, ChoiceDelta, Generation, WholeText
from glmserve.api.answering.sse import DONE, encode_json, event
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.usage import Usage
from glmserve.api.openai.completion_objects import Completion, CompletionChoice, LegacyLogprobs
from glmserve.api.openai.logprobs import CompletionLogprobs
from glmserve.api.openai.prompt_logprobs import PromptLogprobs, prompt_logprobs_of
from glmserve.api.protocol import CompletionRequest
from glmserve.errors import GlmserveError
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.tokenizer import Tokenizer


class CompletionWriter:
    """Writes one answer; its objects share id, time and model.

    Args:
        tokenizer: None: the server has none, so token ids are the answer.
        continues_text: the prompts end in text, so that a leading blank belongs to the answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        request: CompletionRequest,
        generation: Generation,
        *,
        continues_text: bool,
    ) -> None:
        self.generation = generation
        self._continues_text = continues_text
        self._request = request
        self._tokenizer = tokenizer
        self._prompt_of = [g for g, group in enumerate(generation.groups) for _ in group]
        self._with_ids = request.return_token_ids or tokenizer is None
        self._head: dict[str, Any] = {
            "id": generation.identity.new_id("cmpl-"),
            "created": generation.identity.created,
            "model": request.model,
        }
        self._is_first = [True] * len(generation.choices)
        """Of each choice whether its stream has had no event."""
        self._logprobs = [self._new_logprobs() for _ in generation.choices]
        """Of each choice's stream."""

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        """The answer as one JSON body."""
        size = 0
        if self._request.logprobs is not None:
            prompts = sum(group[0].request.num_prompt_tokens for group in self.generation.groups)
            size = prompts + sum(len(text.scored) for text in texts)
        return await run_in_thread_if_large(lambda: encode_json(self._completion(texts)), size)

    def failure(self, error: GlmserveError) -> list[bytes]:
        """The last event of a stream that has failed."""
        return [event(openai_error(failure_of(error)))]

    def _completion(self, texts: Sequence[WholeText]) -> Completion:
        choices: list[CompletionChoice] = []
        for number in self._best(texts):
            text = texts[number]
            reason = text.choice.finish_reason
            choice = self._choice(len(choices), text.text, text.token_ids, reason)
            logprobs = self._new_logprobs()
            if self._request.echo:
                choice.text = self._prompt_text(number) + choice.text
                choice.logprobs = self._prompt_logprobs(number, logprobs)
            if logprobs is not None:
                own = logprobs.push([*text.scored, *_stop_token(text.choice)])
                choice.logprobs = choice.logprobs.joined(own) if choice.logprobs else own
            if not self._with_ids:
                choice.token_ids = None
            choice.prompt_token_ids = text.choice.request.prompt_ids if self._with_ids else None
            choice.prompt_logprobs = self._scored_prompt(number)
            choices.append(choice)
        return Completion(**self._head, choices=choices, usage=self.generation.usage())

    def opening(self) -> tuple[bytes, ...]:
        """None: a stream begins with its first delta."""
        return ()

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        """The events that follow from new deltas."""
        events = []
        for index, delta in deltas:
            if self._is_first[index] and self._request.echo:
                events.append(self._choice_event(self._echoed_prompt(index)))
            if delta is None:
                events.append(self._choice_event(self._end_of(index)))
            elif delta.text or delta.scored or self._with_ids:
                choice = self._choice(index, delta.text, delta.token_ids, None)
                writer = self._logprobs[index]
                choice.logprobs = writer.push(delta.scored) if writer else None
                events.append(self._choice_event(choice))
        return events

    def closing(self) -> Iterator[bytes]:
        """The counts of tokens, if the request asks for them, and the mark of the end."""
        if self._request.include_usage:
            yield event(Completion(**self._head, choices=[], usage=self.generation.usage()))
        yield DONE

    def _echoed_prompt(self, index: int) -> CompletionChoice:
        choice = self._choice(index, self._prompt_text(index), [], None)
        choice.logprobs = self._prompt_logprobs(index, self._logprobs[index])
        return choice

    def _end_of(self, index: int) -> CompletionChoice:
        ended = self.generation.choices[index]
        choice = self._choice(index, "", [], ended.finish_reason)
        if (writer := self._logprobs[index]) and (last := _stop_token(ended)):
            choice.logprobs = writer.push(last)
        return choice

    def _choice_event(self, choice: CompletionChoice) -> bytes:
        if self._with_ids and self._is_first[choice.index]:
            choice.prompt_token_ids = self.generation.choices[choice.index].request.prompt_ids
        self._is_first[choice.index] = False
        usage: Usage | UnsetType | None = None if self._request.include_usage else UNSET
        if self._request.continuous_usage:
            usage = self.generation.usage()
        return event(Completion(**self._head, choices=[choice], usage=usage))

    def _best(self, texts: Sequence[WholeText]) -> list[int]:
        """Numbers of the texts to return: of each prompt the n most likely, or all."""
        numbers, start = [], 0
        for group in self.generation.groups:
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
        return CompletionLogprobs(
            self._tokenizer,
            self._request.skip_special_tokens,
            continues_text=self._continues_text and not self._request.echo,
            as_token_ids=self._request.return_tokens_as_token_ids,
        )

    def _prompt_text(self, number: int) -> str:
        """The prompt of a choice as the client wrote it, or as its ids read."""
        prompt = self._request.prompts[self._prompt_of[number]]
        if isinstance(prompt, str) and self._request.truncate_prompt_tokens is None:
            return prompt
        if self._tokenizer is None:
            return ""
        ids = self.generation.choices[number].request.prompt_ids
        return self._tokenizer.decode(ids, self._request.skip_special_tokens)

    def _scored_prompt(self, number: int) -> PromptLogprobs | None:
        if self._request.prompt_logprobs is None:
            return None
        return prompt_logprobs_of(
            self.generation.groups[self._prompt_of[number]][0].request,
            self._tokenizer,
            self._request.prompt_logprobs,
            as_token_ids=self._request.return_tokens_as_token_ids,
        )

    def _prompt_logprobs(
        self, number: int, writer: CompletionLogprobs | None
    ) -> LegacyLogprobs | None:
        if writer is None:
            return None
        first = self.generation.groups[self._prompt_of[number]][0].request
        return writer.push_prompt(
            first.prompt_ids, first.prompt_logprobs, self._request.logprobs or 0
        )


def _stop_token(choice: Choice) -> list[ScoredToken]:
    """The stop token is scored with its text: evaluation harnesses expect one score per token."""
    return [choice.text.stop_token] if choice.text.stop_token is not None else []
