"""`AsyncLLM`: a model for programs with an event loop."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, closing
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Self, overload

from glmserve.cli.announce import LoadingBar
from glmserve.embedded import bodies
from glmserve.embedded.bodies import (
    Conversation,
    Params,
    Prompt,
    chat_body,
    completion_body,
    embedding_body,
    given_fields,
    given_fields_of_each,
    num_choices,
    pairs,
    single_conversation,
    single_prompt,
)
from glmserve.embedded.calls import CHAT, COMPLETIONS, EMBEDDINGS, Calls
from glmserve.embedded.options import complete, read_options
from glmserve.embedded.params import SamplingParams
from glmserve.embedded.results import (
    ChatChunk,
    ChatCompletion,
    Completion,
    Embedding,
    EmbeddingList,
    Score,
)
from glmserve.embedded.scores import read_score, score_body
from glmserve.embedded.server import EmbeddedServer, start_server
from glmserve.errors import ClosedError


class AsyncLLM:
    """A model in a worker process of its own, with the scheduler and the answers of `serve`.

    Use it as `async with AsyncLLM(...) as llm`, or call `start` and `close`. Calls may run at the
    same time; they share the batch.

    Args:
        checkpoint: folder or name of the model; None: glm-tiny, which comes with glmserve.
        progress: show bars of loading and of lists; None: on a terminal or in a notebook.
        options: those of `glmserve serve` by their names, such as `device="cpu"` or
            `max_batch_size=8`; those of HTTP are refused.
    """

    def __init__(
        self,
        checkpoint: str | PathLike[str] | None = None,
        *,
        progress: bool | None = None,
        **options: Any,
    ) -> None:
        if checkpoint is not None:
            options = {"checkpoint": str(checkpoint), **options}
        self._read_options = partial(read_options, options)
        self._progress = progress
        self._calls: Calls | None = None
        self._closing = AsyncExitStack()

    @classmethod
    def of_command(cls, options: argparse.Namespace) -> Self:
        """The LLM of a command that has some of the options of `serve`."""
        llm = cls()
        llm._read_options = partial(complete, options)
        return llm

    async def start(self) -> None:
        """Load the model.

        Raises:
            StartupError: it cannot be loaded; OptionError, CheckpointError and DeviceError say why.
            ClosedError: it is loaded already.
        """
        if self._calls is not None:
            raise ClosedError("this LLM is open already")
        options = await asyncio.to_thread(self._read_options)
        with closing(LoadingBar(self._progress)) as bar:
            server = await self._closing.enter_async_context(start_server(options, bar.update))
        self._calls = Calls(server, options.queue_size, self._progress)

    async def close(self) -> None:
        """End the worker process. Calls that still run get an EngineDeadError."""
        self._calls = None
        await self._closing.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def server(self) -> EmbeddedServer:
        """Answers any request of the API.

        Raises:
            ClosedError: this is not open.
        """
        return self._open_calls.server

    @property
    def _open_calls(self) -> Calls:
        if self._calls is None:
            raise ClosedError("this LLM is not open: start it, or use it in its with statement")
        return self._calls

    @overload
    async def generate(
        self, prompts: Prompt, params: SamplingParams | None = None, **fields: Any
    ) -> Completion: ...

    @overload
    async def generate(
        self, prompts: Iterable[Prompt], params: Params = None, **fields: Any
    ) -> list[Completion]: ...

    async def generate(
        self,
        prompts: Any,
        params: Params = None,
        *,
        adapter: str | None = None,
        progress: bool | None = None,
        **fields: Any,
    ) -> Completion | list[Completion]:
        """Continue a prompt, or each of several.

        Args:
            prompts: a text or a list of token ids; or an iterable of such prompts.
            params: for all prompts, or a list with one for each of several.
            adapter: name of the adapter that changes the model.
            progress: show a bar for several prompts; None: as the LLM.
            fields: further fields of /v1/completions, such as `response_format`.

        Returns:
            The n texts of the prompt; of several prompts a list of such results, in their order.

        Raises:
            InvalidRequestError: a field is wrong; `param` names it.
            GlmserveError: the model cannot answer. Of several prompts, a note says which one.
        """
        calls = self._open_calls

        async def answer(item: tuple[Any, dict[str, Any]]) -> Completion:
            return await calls.whole(COMPLETIONS, completion_body(*item), Completion)

        one = single_prompt(prompts)
        if one is not None:
            return await answer((one, given_fields(params, adapter, fields, bodies.GENERATE)))
        items = given_fields_of_each(prompts, params, adapter, fields, bodies.GENERATE)
        return await calls.many(prompts, items, answer, num_choices(params, fields), progress)

    @overload
    async def chat(
        self, messages: Conversation, params: SamplingParams | None = None, **fields: Any
    ) -> ChatCompletion: ...

    @overload
    async def chat(
        self, messages: Iterable[Conversation], params: Params = None, **fields: Any
    ) -> list[ChatCompletion]: ...

    async def chat(
        self,
        messages: Any,
        params: Params = None,
        *,
        adapter: str | None = None,
        progress: bool | None = None,
        **fields: Any,
    ) -> ChatCompletion | list[ChatCompletion]:
        """Answer a conversation, or each of several.

        Args:
            messages: a list of messages such as {"role": "user", "content": "Hello!"}, or the text
                of the user's only message; or an iterable of such conversations.
            params: for all conversations, or a list with one for each of several.
            adapter: name of the adapter that changes the model.
            progress: show a bar for several conversations; None: as the LLM.
            fields: further fields of /v1/chat/completions, such as `tools` or `response_format`.

        Returns, Raises:
            As of `generate`.
        """
        calls = self._open_calls

        async def answer(item: tuple[Any, dict[str, Any]]) -> ChatCompletion:
            return await calls.whole(CHAT, chat_body(*item), ChatCompletion)

        one = single_conversation(messages)
        if one is not None:
            return await answer((one, given_fields(params, adapter, fields, bodies.CHAT)))
        items = given_fields_of_each(messages, params, adapter, fields, bodies.CHAT)
        return await calls.many(messages, items, answer, num_choices(params, fields), progress)

    async def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        adapter: str | None = None,
        **fields: Any,
    ) -> AsyncIterator[Completion]:
        """Continue one prompt, and yield what is new as it is generated; the last item has `usage`.

        Leaving the loop early ends the generation. Arguments and errors are those of `generate`.
        """
        given = given_fields(params, adapter, fields, bodies.STREAM)
        async for item in self._open_calls.stream(
            COMPLETIONS, completion_body(prompt, given), Completion
        ):
            yield item

    async def stream_chat(
        self,
        messages: Conversation,
        params: SamplingParams | None = None,
        *,
        adapter: str | None = None,
        **fields: Any,
    ) -> AsyncIterator[ChatChunk]:
        """Answer one conversation, and yield what is new; the last item has `usage`.

        Leaving the loop early ends the generation. Arguments and errors are those of `chat`.
        """
        given = given_fields(params, adapter, fields, bodies.STREAM_CHAT)
        async for item in self._open_calls.stream(CHAT, chat_body(messages, given), ChatChunk):
            yield item

    @overload
    async def embed(self, texts: Prompt, **fields: Any) -> Embedding: ...

    @overload
    async def embed(self, texts: Iterable[Prompt], **fields: Any) -> list[Embedding]: ...

    async def embed(
        self,
        texts: Any,
        *,
        adapter: str | None = None,
        progress: bool | None = None,
        **fields: Any,
    ) -> Embedding | list[Embedding]:
        """The vector of a text, or of each of several: the mean of the last hidden states.

        Args:
            texts: a text or a list of token ids; or an iterable of such texts.
            fields: further fields of /v1/embeddings, such as `dimensions`.

        Returns, Raises:
            As of `generate`.
        """
        calls = self._open_calls
        given = given_fields(None, adapter, fields, bodies.EMBED)

        async def answer(text: Any) -> Embedding:
            found = await calls.whole(EMBEDDINGS, embedding_body(text, given), EmbeddingList)
            return Embedding(found.data[0].embedding, found.usage.prompt_tokens)

        one = single_prompt(texts)
        if one is not None:
            return await answer(one)
        return await calls.many(texts, texts, answer, 1, progress)

    @overload
    async def score(self, prompts: str, texts: str, **fields: Any) -> Score: ...

    @overload
    async def score(self, prompts: Iterable[str], texts: Any, **fields: Any) -> list[Score]: ...

    async def score(
        self,
        prompts: Any,
        texts: Any,
        *,
        adapter: str | None = None,
        progress: bool | None = None,
        **fields: Any,
    ) -> Score | list[Score]:
        """How likely the model is to continue a prompt with a text: its log-likelihood.

        A token that belongs to the end of the prompt and to the begin of the text counts with the
        text.

        Args:
            prompts: one, for all texts, or as many as texts.
            texts: one, for all prompts, or as many as prompts.
            fields: further fields of /v1/completions, such as `add_special_tokens`.

        Returns:
            One score if both are texts; otherwise a list.

        Raises:
            InvalidRequestError: there are not as many of both, or a field is wrong.
            GlmserveError: the model cannot answer; it is one that reads in both directions.
        """
        calls, given = self._open_calls, given_fields(None, adapter, fields, bodies.SCORE)

        async def answer(pair: tuple[str, str]) -> Score:
            body, begin = await score_body(calls.server.context, *pair, given)
            return read_score(await calls.whole(COMPLETIONS, body, Completion), begin)

        if isinstance(prompts, str) and isinstance(texts, str):
            return await answer((prompts, texts))
        both = list(pairs(prompts, texts))
        return await calls.many(both, both, answer, 1, progress)
