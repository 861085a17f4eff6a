"""The parts of a running server that answering uses."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from pydantic import BaseModel

from glmserve.api.answering.left_out_tools import LeftOutTools
from glmserve.api.answering.quotas import Quotas
from glmserve.api.answering.response_cache import ResponseCache
from glmserve.api.journaling.answer_registry import AnswerRegistry
from glmserve.api.protocol.unknown_fields import UnknownFields
from glmserve.batches.storage import BatchStorage
from glmserve.config import ReportProgress, ServerConfig
from glmserve.engine import AdapterCatalog, AdapterVersion, Engine
from glmserve.errors import (
    AdapterError,
    AdapterUnavailableError,
    InvalidRequestError,
    ModelNotFoundError,
    StartupError,
)
from glmserve.journal import Journal
from glmserve.model_config import GenerationDefaults, ModelConfig
from glmserve.text.chat_format import ChatFormat
from glmserve.text.structure import StructureCompiler
from glmserve.text.templates.of_adapter import note_template
from glmserve.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_MOST_NAMES = 20
"""Names in an error message."""

NO_CHAT_FORMAT = (
    "this server writes no conversations: it was started with --chat-template none; use "
    "/v1/completions"
)


class ModelRequest(Protocol):
    """A request that may name a model."""

    model: str


@dataclass
class ServerContext:
    """The parts of a running server, put together by the cli."""

    config: ServerConfig
    model: ModelConfig
    engine: Engine
    tokenizer: Tokenizer | None
    """None with --skip-tokenizer-init: prompts are token ids only."""
    chat_format: ChatFormat | None
    """None without a tokenizer, and with --chat-template none."""
    generation_defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    """For requests that do not set these fields."""
    chat_reason: str = ""
    """Why conversations are written as they are, for the user; empty if there was no choice."""
    structures: StructureCompiler | None = field(init=False)
    """None without a tokenizer."""
    response_cache: ResponseCache | None = field(init=False)
    """None unless the operator configured one."""
    unknown_fields: UnknownFields | None = field(init=False)
    """None: unknown fields of requests are refused."""
    left_out_tools: LeftOutTools = field(default_factory=LeftOutTools)
    quotas: Quotas = field(default_factory=Quotas)
    adapters: AdapterCatalog = field(init=False)
    answers: AnswerRegistry | None = field(init=False, default=None)
    """None without a journal."""
    batches: BatchStorage | None = None
    """Where files and batches are kept; None: nowhere."""
    started: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds."""
    seeds: Iterator[int] = field(init=False)
    """Seeds of requests without one: the server's seed, counted up."""
    _tidying: asyncio.Task[None] | None = field(init=False, default=None)
    _model_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.structures = StructureCompiler(self.tokenizer) if self.tokenizer else None
        size, list_size = self.config.cache_size, self.config.cache_list_size
        self.response_cache = ResponseCache(size, list_size) if size else None
        self.unknown_fields = UnknownFields() if self.config.ignore_unknown_fields else None
        self.seeds = itertools.count(self.config.seed)
        self._model_names = self.config.model_names
        self.adapters = AdapterCatalog(
            self.engine.adapters,
            self._model_names,
            self.config.adapters,
            partial(note_template, model=self.model.path.parent),
        )

    def record_to(self, journal: Journal) -> None:
        """Record answers in this journal. Must be called before `create_app`."""
        self.answers = AnswerRegistry(journal)
        self.engine.stats.registry.register(journal.metrics)

    async def start(self, progress: ReportProgress) -> None:
        """Become ready to answer.

        Raises:
            StartupError: see Engine.start.
        """
        if self.answers is not None:
            self._tidying = asyncio.create_task(self.answers.journal.entries.tend_forever())
        starting = [self.engine.start(progress, self._load_adapters)]
        if self.structures is not None:
            starting.append(self.structures.prepare())
        await asyncio.gather(*starting)

    async def _load_adapters(self) -> None:
        """Load those of the command line.

        Raises:
            StartupError: one cannot be served.
        """
        for name, folder in self.config.adapters.named:
            try:
                await self.adapters.add(name, folder)
            except (AdapterError, InvalidRequestError) as error:
                raise StartupError(f"--adapter {name}: {error.message}") from None

    async def close(self) -> None:
        """End everything that runs."""
        await self.engine.close()
        if self.structures is not None:
            await self.structures.close()
        if self.chat_format is not None:
            self.chat_format.close()
        if self._tidying is not None:
            self._tidying.cancel()
        if self.answers is not None:
            await self.answers.journal.close()
        if self.batches is not None:
            await self.batches.close()

    async def settle_model(self, request: ModelRequest) -> AdapterVersion | None:
        """Find the model of a request; one without a model gets the model that is served.

        Returns:
            See `find_model`.

        Raises:
            ModelNotFoundError, AdapterUnavailableError: see `find_model`.
        """
        request.model = request.model or self.config.served_model_name
        return await self.find_model(request.model)

    def apply_defaults(self, request: BaseModel) -> None:
        """Set the sampling fields that the request has and does not set, as the checkpoint says."""
        defaults = self.generation_defaults
        values = dict(defaults.sampling)
        asked = request.model_fields_set
        samples = "do_sample" in asked and getattr(request, "do_sample", False)
        if defaults.greedy and not samples:
            values["temperature"] = 0.0
        for name in values.keys() & (type(request).model_fields.keys() - asked):
            setattr(request, name, values[name])

    async def find_model(self, name: str) -> AdapterVersion | None:
        """The adapter that a model's name means now; None: the model itself.

        Raises:
            ModelNotFoundError: this server serves no model and no adapter of this name.
            AdapterUnavailableError: the adapter cannot be read now.
        """
        if name in self._model_names:
            return None
        try:
            version = await self.adapters.find(name)
        except AdapterError as error:
            logger.error("the adapter %r cannot be used: %s", name, error.message)
            raise AdapterUnavailableError.of(name) from None
        if version is not None:
            return version
        names = [*self._model_names, *await self.adapters.names()]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        raise ModelNotFoundError(
            f"the model {name[:200]!r} does not exist here; this server serves "
            + ", ".join(map(repr, names[:_MOST_NAMES]))
            + more,
            "model",
        )
