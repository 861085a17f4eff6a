"""The commands of a chat, such as /system."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from glmserve.cli.chat.conversation import Conversation, check, load, read_json
from glmserve.errors import InvalidRequestError

_OFF = "off"


class Outcome(NamedTuple):
    """What a command leads to."""

    lines: str = ""
    """To be shown."""
    answers: bool = False
    """The last message of the user is to be answered again."""
    ends: bool = False
    """The chat is over."""
    shows_figures: bool = False
    """How fast the last answer came is to be shown."""


Action = Callable[["Commands", str], Outcome]


class Commands:
    """Carries out commands on a conversation, which `conversation` is also after /load."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def run(self, line: str) -> Outcome:
        """Carry out a line that begins with a slash. What fails is said, and changes nothing."""
        name, _, rest = line.strip().partition(" ")
        command = COMMANDS.get(name)
        if command is None:
            return Outcome(f"there is no {name}; /help lists what there is")
        try:
            return command.action(self, rest.strip())
        except InvalidRequestError as error:
            return Outcome(f"error: {error.message}")
        except OSError as error:
            return Outcome(f"error: {error.filename}: {error.strerror}")

    def help(self, _: str) -> Outcome:
        width = max(len(command.usage) for command in COMMANDS.values())
        lines = [f"{c.usage:{width}}  {c.help}" for c in COMMANDS.values()]
        return Outcome("\n".join([*lines, "", *_KEYS]))

    def system(self, text: str) -> Outcome:
        if not text:
            return Outcome(self.conversation.system or "there is none")
        self.conversation.system = "" if text == _OFF else text
        return Outcome()

    def set(self, rest: str) -> Outcome:
        if not rest:
            shown = [f"{k} = {json.dumps(v)}" for k, v in self.conversation.fields.items()]
            return Outcome("\n".join(shown) or "nothing is set")
        name, _, text = rest.partition(" ")
        changed = copy.copy(self.conversation)
        changed.fields = {k: v for k, v in self.conversation.fields.items() if k != name}
        if name in ("messages", "tools", "stream", "stream_options", "model", "n"):
            return Outcome(f"error: {name} is not for /set")
        if not text:
            current = self.conversation.fields.get(name)
            return Outcome("not set" if current is None else json.dumps(current))
        if text != _OFF:
            changed.fields[name] = _value(text)
            check(changed)
        self.conversation.fields = changed.fields
        return Outcome()

    def tools(self, rest: str) -> Outcome:
        if not rest:
            return Outcome(_tool_names(self.conversation) or "there are none")
        changed = copy.copy(self.conversation)
        changed.tools = []
        if rest != _OFF:
            found = read_json(Path(rest).expanduser())
            changed.tools = found if isinstance(found, list) else [found]
            check(changed)
        self.conversation.tools = changed.tools
        return Outcome(_tool_names(self.conversation))

    def save(self, rest: str) -> Outcome:
        if not rest:
            return Outcome("error: /save FILE")
        self.conversation.save(Path(rest).expanduser())
        return Outcome(f"saved to {rest}")

    def load(self, rest: str) -> Outcome:
        if not rest:
            return Outcome("error: /load FILE")
        self.conversation = load(Path(rest).expanduser())
        return Outcome(f"{len(self.conversation.messages)} messages")

    def retry(self, _: str) -> Outcome:
        if self.conversation.retry():
            return Outcome(answers=True)
        return Outcome("there is nothing to answer again")

    def undo(self, _: str) -> Outcome:
        text = self.conversation.undo()
        return Outcome("there is nothing to take back" if text is None else f"taken back: {text}")

    def clear(self, _: str) -> Outcome:
        self.conversation.messages.clear()
        return Outcome()

    def stats(self, _: str) -> Outcome:
        return Outcome(shows_figures=True)

    def exit(self, _: str) -> Outcome:
        return Outcome(ends=True)


class Command(NamedTuple):
    """One command."""

    usage: str
    help: str
    action: Action


COMMANDS = {
    "/system": Command("/system [TEXT|off]", "tell the model this first; show it", Commands.system),
    "/set": Command(
        "/set [NAME [VALUE|off]]",
        "a field of requests, such as temperature 0.7; show it",
        Commands.set,
    ),
    "/tools": Command(
        "/tools [FILE|off]",
        "tools that the model may call; show them",
        Commands.tools,
    ),
    "/retry": Command("/retry", "answer the last message again", Commands.retry),
    "/undo": Command("/undo", "take the last message and its answer back", Commands.undo),
    "/clear": Command("/clear", "forget the messages", Commands.clear),
    "/save": Command("/save FILE", "write the conversation", Commands.save),
    "/load": Command("/load FILE", "go on with a conversation", Commands.load),
    "/stats": Command("/stats", "how fast the last answer came", Commands.stats),
    "/help": Command("/help", "this list", Commands.help),
    "/exit": Command("/exit", "end, as Ctrl-D does", Commands.exit),
}
_KEYS = (
    "Enter sends. Alt-Enter, or \\ before Enter, begins another line.",
    "A message that begins with a slash is written with two.",
    "Ctrl-C stops an answer, which stays as far as it has come.",
)


def _value(text: str) -> object:
    """A JSON value, or the text itself."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value


def _tool_names(conversation: Conversation) -> str:
    return ", ".join(tool["function"]["name"] for tool in conversation.tools)
