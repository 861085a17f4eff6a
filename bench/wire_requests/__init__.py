"""The requests that wire.py sends: one file for each API, and one for each kind of server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wire_requests import (
    access,
    bare,
    chat,
    completions,
    embeddings,
    http,
    journal,
    messages,
    responses,
    tokens,
)
from wire_requests.request import WireRequest


class WireServer(NamedTuple):
    """A server and what it is asked, one after another."""

    name: str
    options: Sequence[str]
    """Of `glmserve serve`; `{folder}` is an empty folder of the server's own."""
    requests: Sequence[WireRequest]
    files: Sequence[tuple[str, str]] = ()
    """Names and texts of files that the folder has before the server starts."""

    def arguments(self, folder: Path) -> list[str]:
        """The options for a server with this folder."""
        return [option.replace("{folder}", str(folder)) for option in self.options]


SERVERS = (
    WireServer(
        "plain",
        ("--device", "cpu"),
        [
            *chat.requests(),
            *completions.requests(),
            *responses.requests(),
            *messages.requests(),
            *embeddings.requests(),
            *tokens.requests(),
            *http.requests(),
        ],
    ),
    WireServer("journal", ("--device", "cpu", "--journal", "{folder}"), [*journal.requests()]),
    WireServer("access", access.OPTIONS, [*access.requests()], access.FILES),
    WireServer("bare", bare.OPTIONS, [*bare.requests()]),
)
