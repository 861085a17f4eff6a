"""`LLM`: a model for scripts and notebooks."""

from __future__ import annotations

import argparse
import os
import weakref
from collections.abc import Iterable, Iterator
from os import PathLike
from types import TracebackType
from typing import Any, Self, overload

from glmserve.embedded.async_llm import AsyncLLM
from glmserve.embedded.bodies import Conversation, Params, Prompt
from glmserve.embedded.loop_thread import LoopThread
from glmserve.embedded.params import SamplingParams
from glmserve.embedded.results import ChatChunk, ChatCompletion, Completion, Embedding, Score
from glmserve.embedded.server import EmbeddedServer


class LLM:
    """`AsyncLLM` for callers that wait: its event loop runs on a thread of its own.

    So it works where a loop runs already, as in notebooks, and may be used by several threads. The
    model is loaded when this is made. `close`, the end of a with statement and the end of the
    program end the worker process. Ctrl-C ends the call that waits, and nothing else.

    Args:
        checkpoint, progress, options: see `AsyncLLM`.

    Raises:
        StartupError: the model cannot be loaded; OptionError, CheckpointError and DeviceError say
            why.
    """

    def __init__(
        self,
        checkpoint: str | PathLike[str] | None = None,
        *,
        progress: bool | None = None,
        **options: Any,
    ) -> None:
        self._open(AsyncLLM(checkpoint, progress=progress, **options))

    @classmethod
    def of_command(cls, options: argparse.Namespace) -> Self:
        """The LLM of a command that has some of the options of `serve`."""
        llm = cls.__new__(cls)
        llm._open(AsyncLLM.of_command(options))
        return llm

    def _open(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._thread = LoopThread()
        self._finalizer = weakref.finalize(self, _end, self._llm, self._thread, os.getpid())
        # At the end of the interpreter no thread can be started. The kernel ends the worker then.
        self._finalizer.atexit = False
        try:
            self._thread.run(self._llm.start())
        except BaseException:
            self._finalizer()
            raise

    @property
    def server(self) -> EmbeddedServer:
        """What answers, see `AsyncLLM.server`. Its coroutines run on the thread of this LLM."""
        return self._llm.server

    def close(self) -> None:
        """End the worker process. Calls of other threads get an EngineDeadError."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @overload
    def generate(
        self, prompts: Prompt, params: SamplingParams | None = None, **fields: Any
    ) -> Completion: ...

    @overload
    def generate(
        self, prompts: Iterable[Prompt], params: Params = None, **fields: Any
    ) -> list[Completion]: ...

    def generate(
        self, prompts: Any, params: Params = None, **fields: Any
    ) -> Completion | list[Completion]:
        """Continue a prompt, or each of several: see `AsyncLLM.generate`."""
        result: Completion | list[Completion] = self._thread.run(
            self._llm.generate(prompts, params, **fields)
        )
        return result

    @overload
    def chat(
        self, messages: Conversation, params: SamplingParams | None = None, **fields: Any
    ) -> ChatCompletion: ...

    @overload
    def chat(
        self, messages: Iterable[Conversation], params: Params = None, **fields: Any
    ) -> list[ChatCompletion]: ...

    def chat(
        self, messages: Any, params: Params = None, **fields: Any
    ) -> ChatCompletion | list[ChatCompletion]:
        """Answer a conversation, or each of several: see `AsyncLLM.chat`."""
        result: ChatCompletion | list[ChatCompletion] = self._thread.run(
            self._llm.chat(messages, params, **fields)
        )
        return result

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **fields: Any
    ) -> Iterator[Completion]:
        """Continue a prompt, and yield what is new: see `AsyncLLM.stream`."""
        return self._thread.iterate(lambda: self._llm.stream(prompt, params, **fields))

    def stream_chat(
        self, messages: Conversation, params: SamplingParams | None = None, **fields: Any
    ) -> Iterator[ChatChunk]:
        """Answer a conversation, and yield what is new: see `AsyncLLM.stream_chat`."""
        return self._thread.iterate(lambda: self._llm.stream_chat(messages, params, **fields))

    @overload
    def embed(self, texts: Prompt, **fields: Any) -> Embedding: ...

    @overload
    def embed(self, texts: Iterable[Prompt], **fields: Any) -> list[Embedding]: ...

    def embed(self, texts: Any, **fields: Any) -> Embedding | list[Embedding]:
        """The vector of a text, or of each of several: see `AsyncLLM.embed`."""
        result: Embedding | list[Embedding] = self._thread.run(self._llm.embed(texts, **fields))
        return result

    @overload
    def score(self, prompts: str, texts: str, **fields: Any) -> Score: ...

    @overload
    def score(self, prompts: str | Iterable[str], texts: Any, **fields: Any) -> list[Score]: ...

    def score(self, prompts: Any, texts: Any, **fields: Any) -> Score | list[Score]:
        """How likely texts are after prompts: see `AsyncLLM.score`."""
        result: Score | list[Score] = self._thread.run(self._llm.score(prompts, texts, **fields))
        return result


def _end(llm: AsyncLLM, thread: LoopThread, process: int) -> None:
    """End the worker and the thread. Runs once: by `close`, or with the last reference."""
    if os.getpid() != process:
        return  # a forked process has neither
    thread.end(llm.close())
