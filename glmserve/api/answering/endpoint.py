"""An API that answers with generated text, as data for the pipeline; requests and writers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.caller import Caller
from glmserve.api.answering.client import ClientSignal, never
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.generation import ChoiceDelta, Generation, WholeText
from glmserve.engine import AdapterVersion
from glmserve.errors import GlmserveError
from glmserve.journal import Entry


class TextRequest(Protocol):
    """The fields that all requests for text have."""

    model: str

    @property
    def stream(self) -> bool: ...


class AnswerWriter(Protocol):
    """Writes one answer in the shape of its API."""

    generation: Generation

    def opening(self) -> Iterable[bytes]:
        """The first events of a stream, as server-sent events in bytes."""
        ...

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        """The events that follow from new deltas of the generation."""
        ...

    def closing(self) -> Iterable[bytes]:
        """The last events of a stream that has come to its end."""
        ...

    def failure(self, error: GlmserveError) -> Iterable[bytes]:
        """The last events of a stream that has failed, in the place of further ones."""
        ...

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        """The answer as one JSON body."""
        ...


Parsed = TypeVar("Parsed", bound=TextRequest)


class Endpoint(ABC, Generic[Parsed]):
    """How one API parses requests, makes generations of them, and writes answers."""

    path: ClassVar[str]
    request_type: ClassVar[type[Any]]
    """A StrictModel that is a TextRequest."""
    field_names: ClassVar[Mapping[str, str]] = {}
    """This API's names of the fields of a chat completion request, where they differ: errors that
    come from answering name these."""
    is_cacheable: ClassVar[bool] = False
    """Whether the response cache may answer."""
    is_journaled: ClassVar[bool] = True
    """Whether a journal records the answers; it records tokens."""

    checks: ClassVar[Sequence[Callable[[Any], None]]] = ()
    """Called with a parsed request; they raise InvalidRequestError if its fields contradict each
    other."""

    @abstractmethod
    async def start(
        self, server: ServerContext, request: Parsed, answer: AnswerContext
    ) -> AnswerWriter:
        """Start generating. The writer's generation must be closed on every path.

        Raises:
            GlmserveError: the request cannot be honoured now, or at all.
        """


def _ignore(writer: AnswerWriter, headers: Mapping[str, str]) -> None:
    """An on_start that does nothing."""


@dataclass(frozen=True)
class AnswerRequest:
    """A request that is parsed and checked, with what else matters to its answer."""

    endpoint: Endpoint[Any]
    parsed: Any
    """Of the endpoint's request type."""
    body: bytes
    """The request as it was sent; used with a journal only."""
    caller: Caller
    client_left: ClientSignal = never
    last_event_id: str | None = None
    """The header Last-Event-ID: go on with this stream."""
    idempotency_key: str | None = None
    """The header Idempotency-Key."""
    on_start: Callable[[AnswerWriter, Mapping[str, str]], None] = _ignore
    """Called with the answer's writer and headers when generating begins."""
    is_recorded: bool = True
    """False: the answer is not journaled, because its client has no way to ask for the rest."""
    is_detached: bool = False
    """No client waits for the answer. It is recorded like a whole one, even if it is streamed, so
    that the next server finishes it."""
    adapter: AdapterVersion | None = None
    """What its `model` means, once the pipeline has found it; None: the model itself."""
    unfinished: Entry | None = None
    """The entry to finish, where the server itself asks for an answer that no client waits for."""
    in_background: bool = False
    """See AnswerContext."""

    @property
    def is_stream(self) -> bool:
        stream: bool = self.parsed.stream
        return stream

    @property
    def is_resumable(self) -> bool:
        """Whether the client of a stream may go on with it by Last-Event-ID."""
        return self.is_stream and not self.is_detached
