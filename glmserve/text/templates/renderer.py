"""Renders templates in limited processes. It blocks, so the event loop must not call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from glmserve.errors import GlmserveError
from glmserve.process.limited_lanes import LimitedLanes
from glmserve.process.template_messages import (
    PROCESS,
    TIME_LIMIT,
    RenderRequest,
    RenderResult,
    RenderSetup,
)

_TIMEOUT = 30.0
"""Seconds of the clock for one request, on a machine that is busy."""


class TemplateError(GlmserveError):
    """A template could not be rendered; the message says why.

    Args:
        is_refusal: the template refuses this conversation, by raise_exception.
    """

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal


class TemplateRenderer:
    """Renders the templates of one checkpoint.

    Args:
        templates: source by name.
        variables: special tokens by the names that templates give them, such as bos_token.
    """

    def __init__(self, templates: Mapping[str, str], variables: Mapping[str, str]) -> None:
        setup = RenderSetup(dict(templates), dict(variables))
        self._lanes = LimitedLanes(PROCESS, msgspec.msgpack.encode(setup), _TIMEOUT)

    def render(self, template: str, conversations: Sequence[dict[str, Any]]) -> list[str]:
        """The texts of conversations, each given by the template's variables.

        Raises:
            TemplateError: there is no text.
            QueueFullError: too many conversations that take long are waiting.
        """
        request = RenderRequest(template, list(conversations))
        data = self._lanes.ask(msgspec.msgpack.encode(request))
        if data is None:
            raise TemplateError(f"it takes over {TIME_LIMIT:g} seconds, or too much memory")
        result = msgspec.msgpack.decode(data, type=RenderResult)
        if result.problem is not None:
            raise TemplateError(result.problem, is_refusal=result.is_refusal)
        return result.texts

    def close(self) -> None:
        """End the processes."""
        self._lanes.close()
