"""What a chat knows: its messages, the fields of its requests, its tools; and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmserve.errors import InvalidRequestError

Message = dict[str, Any]


@dataclass
class Conversation:
    """The state of a chat. A turn is the user's message and all that follows until the next one."""

    system: str = ""
    """What the model is told first; empty: nothing."""
    messages: list[Message] = field(default_factory=list)
    """Without the system's."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request, as of /v1/chat/completions."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    """As in the API."""

    def request(self) -> dict[str, Any]:
        """The fields of the next request."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        tools = {"tools": self.tools} if self.tools else {}
        return {"messages": [*system, *self.messages], **tools, **self.fields}

    def ask(self, text: str) -> None:
        """Begin a turn."""
        self.messages.append({"role": "user", "content": text})

    def undo(self) -> str | None:
        """Take the last turn back. Returns what the user said; None: there is no turn."""
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return str(message["content"])
        return None

    def retry(self) -> bool:
        """Take back what follows the user's last message; False: there is none."""
        text = self.undo()
        if text is None:
            return False
        self.ask(text)
        return True

    def save(self, path: Path) -> None:
        """Write all of it.

        Raises:
            OSError: it cannot be written.
        """
        text = json.dumps(vars(self), ensure_ascii=False, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Conversation:
    """Read a file of `save`, or a list of messages as the API takes them.

    Raises:
        OSError: it cannot be read.
        InvalidRequestError: it is something else.
    """
    found = read_json(path)
    if isinstance(found, list):
        system = ""
        if found and isinstance(found[0], dict) and found[0].get("role") == "system":
            system = str(found[0].get("content", ""))
            found = found[1:]
        found = {"system": system, "messages": found}
    if not isinstance(found, dict) or not found.keys() <= vars(Conversation()).keys():
        raise InvalidRequestError(f"{path} is no conversation: see /save")
    conversation = Conversation(**found)
    kinds = {"system": str, "messages": list, "fields": dict, "tools": list}
    if not all(isinstance(getattr(conversation, name), kind) for name, kind in kinds.items()):
        raise InvalidRequestError(f"{path} is no conversation: see /save")
    check(conversation)
    return conversation


def check(conversation: Conversation) -> None:
    """Check that its next request would be one of the API.

    Raises:
        InvalidRequestError: names the field that is wrong.
    """
    from glmserve.api.protocol import ChatCompletionRequest
    from glmserve.api.protocol.parsing import parse_data

    request = conversation.request()
    if not request["messages"] or request["messages"][-1].get("role") != "user":
        request["messages"] = [*request["messages"], {"role": "user", "content": "?"}]
    parse_data(ChatCompletionRequest, request)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read.
        InvalidRequestError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{path} is not valid JSON: {error}") from None
