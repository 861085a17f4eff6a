"""What every handler may use."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from starlette.requests import Request

from glmserve.config import ServerConfig
from glmserve.engine import Engine
from glmserve.errors import ModelNotFoundError
from glmserve.model_config import ModelConfig
from glmserve.text.chat_format import ChatFormat
from glmserve.text.tokenizer import Tokenizer


@dataclass
class ServerContext:
    """The parts of a running server, put together by the cli."""

    config: ServerConfig
    model: ModelConfig
    engine: Engine
    tokenizer: Tokenizer | None
    """None with --skip-tokenizer-init: prompts are token ids only."""
    chat_format: ChatFormat | None
    started: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds."""
    _seeds: itertools.count[int] = field(init=False)

    def __post_init__(self) -> None:
        self._seeds = itertools.count(self.config.seed)

    def next_seed(self) -> int:
        """A seed for a request that brought none: the server's own, counted up."""
        return next(self._seeds)

    def check_model(self, name: str) -> None:
        """Raise ModelNotFoundError unless we serve a model of this name."""
        if name != self.config.served_model_name:
            raise ModelNotFoundError(
                f"the model {name!r} does not exist here; this server serves "
                f"{self.config.served_model_name!r}",
                "model",
            )


def context_of(request: Request) -> ServerContext:
    """The server's context, from a handler's request."""
    context: ServerContext = request.app.state.context
    return context
