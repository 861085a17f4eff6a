"""What the server and the process that renders templates send to each other."""

from __future__ import annotations

from typing import Any

import msgspec

PROCESS = "glmserve.process.template_process"
"""The module of that process. The server does not import it, because Jinja takes time to load."""

TIME_LIMIT = 2.0
"""CPU seconds for one conversation. Templates in use take milliseconds."""
LONGEST_TEXT = 2**24
"""Characters of a rendered conversation."""


class RenderSetup(msgspec.Struct, frozen=True):
    """Data for all requests."""

    templates: dict[str, str]
    """Source by name."""
    variables: dict[str, str]
    """Names of special tokens, such as bos_token, which templates may use."""


class RenderRequest(msgspec.Struct, frozen=True):
    """Conversations to write with one template, all at the same time of the clock."""

    template: str
    conversations: list[dict[str, Any]]
    """The variables of each."""


class RenderResult(msgspec.Struct, frozen=True):
    """The texts, or why there are none."""

    texts: list[str] = []
    problem: str | None = None
    is_refusal: bool = False
    """The template refuses this conversation; it is not broken."""
