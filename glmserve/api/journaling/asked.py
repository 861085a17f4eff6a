"""A request for generated text, beyond what is in its body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.responses import Response

from glmserve.api.caller import ANONYMOUS, Caller
from glmserve.api.identity import Identity
from glmserve.api.journaling.recording import Recording


@dataclass
class Asked:
    """Who asks, what the answer is called by, and where it is recorded."""

    caller: Caller = ANONYMOUS
    identity: Identity = field(default_factory=Identity)
    recording: Recording | None = None

    @property
    def is_resumed(self) -> bool:
        """Whether the answer has begun already."""
        return self.recording is not None and self.recording.is_resumed


MakeResponse = Callable[[Asked], Awaitable[Response]]
"""Answers one request."""
