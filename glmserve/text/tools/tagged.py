"""Calls between `<tool_call>` and `</tool_call>`, for models without a form of their own.

    <tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>

ChatGLM-6B, ChatGLM2, CodeGeeX2 and glm-tiny are told about the form in their system text. A result
comes back between `<tool_response>` and `</tool_response>`, as the next question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmserve.text.partial_match import partial_match_start
from glmserve.text.tools.grammar import arguments_rule, lark_string, one_of
from glmserve.text.tools.json_text import ObjectScanner, read_json, write_json
from glmserve.text.tools.parser import ArgumentsDelta, CallStarted, StateParser
from glmserve.text.tools.tool import Tool, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"

_TAG = re.compile(f"{OPEN}|{CLOSE}")
_MAY_BE_OBJECT = re.compile(r"\s*(?:\{|\Z)")

# Bounded, so that a head that does not end costs no more with every token.
_HEAD = re.compile(
    r'\s{0,32}\{\s{0,32}"name"\s{0,32}:\s{0,32}"(?P<name>[^"\\]{1,256})"\s{0,32},'
    r'\s{0,32}"arguments"\s{0,32}:\s{0,32}(?=\{)'
)


def instructions(tools: Sequence[Tool]) -> str:
    """The system text that offers the tools; short, as it is read with every request."""
    signatures = "\n".join(write_json(tool.signature()) for tool in tools)
    form = f'{OPEN}{{"name": "...", "arguments": {{...}}}}{CLOSE}'
    return f"You can call these functions:\n{signatures}\nTo call one, answer only:\n{form}"


def call_text(call: ToolCall) -> str:
    """A past call as the model has written it."""
    arguments = call.arguments.strip() or "{}"
    return f'{OPEN}{{"name": {write_json(call.name)}, "arguments": {arguments}}}{CLOSE}'


def result_text(content: str) -> str:
    """What a tool has answered, as the model reads it."""
    return f"<tool_response>{content}</tool_response>"


def grammar(tools: Sequence[Tool], *, parallel: bool) -> str:
    """Lark text of one call or, `parallel`, of one or more, a line each."""
    calls = 'call ("\\n" call)*' if parallel else "call"
    start = f'start: (" " | "\\n")? {calls}'
    return "\n".join((start, *_calls(tools, OPEN)))


def grammar_with_text(tools: Sequence[Tool], *, parallel: bool) -> str:
    """Lark text of any text in which an opening mark is followed by a call.

    The text up to the mark is lazy: it ends with the first one, so nothing else can follow that.
    """
    start = f"start: (opening call){'*' if parallel else '?'} rest"
    opening = f"opening[lazy]: /(?s:.*){OPEN}/"
    return "\n".join((start, opening, "rest: /(?s:.*)/", *_calls(tools, "")))


def _calls(tools: Sequence[Tool], opening: str) -> list[str]:
    """Rules for `call`, with the opening mark in front or without."""
    lines = [one_of("call", "call", len(tools))]
    for index, tool in enumerate(tools):
        head = f'{opening}{{"name": {write_json(tool.name)}, "arguments": '
        tail = f"}}{CLOSE}"
        lines.append(f"call_{index}: {lark_string(head)} args_{index} {lark_string(tail)}")
        lines.append(arguments_rule(f"args_{index}", tool))
    return lines


class TaggedParser(StateParser):
    """Passes arguments on as they come where a call is written as usual, name first.

    One that is written otherwise, arguments first or none at all, is read when its end is there.
    Without its end it is a call still if the response stops after the whole object.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._state = self._read_content
        self._body = 0
        """Where in `_held` the text behind an opening mark begins."""
        self._searched = 0
        """No mark begins in `_held` between the body and here."""
        self._index = -1
        self._scanner = ObjectScanner()
        self._closing: tuple[str, ...] = ()

    def _read_content(self) -> bool:
        start = self._held.find(OPEN)
        end = start if start >= 0 else partial_match_start(self._held, OPEN)
        # Whitespace in front of a call is not content, so it waits for what follows.
        content = len(self._held[:end].rstrip())
        self._emit_content(content)
        if start < 0:
            return False
        self._body = self._searched = start - content + len(OPEN)
        self._state = self._read_head
        return True

    def _read_head(self) -> bool:
        head = _HEAD.match(self._held, self._body)
        if head and head["name"] in self._tools:
            self._held = self._held[head.end() :]
            self._start_call(head["name"])
            self._scanner = ObjectScanner()
            self._state = self._read_arguments
            return True
        if not _MAY_BE_OBJECT.match(self._held, self._body):
            return self._refuse(self._body)
        tag = _TAG.search(self._held, self._searched)
        if tag is None:
            self._searched = max(self._body, len(self._held) - len(CLOSE) + 1)
            return False
        if tag[0] == OPEN:
            return self._refuse(len(self._held[: tag.start()].rstrip()))
        if not self._call_of_whole(self._held[self._body : tag.start()]):
            return self._refuse(tag.end())
        self._held = self._held[tag.end() :]
        self._state = self._read_space
        return True

    def _read_arguments(self) -> bool:
        end = self._scanner.feed(self._held)
        if end:
            self._events.append(ArgumentsDelta(self._index, self._held[:end]))
        self._held = self._held[end:]
        if self._scanner.done:
            self._closing = ("}", CLOSE)
            self._state = self._read_closing
        return self._scanner.done

    def _read_closing(self) -> bool:
        """The rest of a call; where it is not there, what is there instead is content."""
        self._held = self._held.lstrip()
        mark = self._closing[0] if self._closing else ""
        if mark and self._held.startswith(mark):
            self._held = self._held[len(mark) :]
            self._closing = self._closing[1:]
            return True
        if mark and mark.startswith(self._held):
            return False
        self._state = self._read_space
        return True

    def _read_space(self) -> bool:
        self._held = self._held.lstrip()
        if self._held:
            self._state = self._read_content
        return bool(self._held)

    def _finish(self) -> None:
        if self._state == self._read_head and self._call_of_whole(self._held[self._body :]):
            return
        if self._state in (self._read_content, self._read_head):
            self._emit_content()

    def _refuse(self, end: int) -> bool:
        """It was no call: `_held[:end]` is content."""
        self._emit_content(end)
        self._state = self._read_content
        return True

    def _call_of_whole(self, text: str) -> bool:
        """Whether `text` is a call as JSON has it, however it is written; it is passed on."""
        try:
            call = read_json(text)
            if not isinstance(call, dict) or call.keys() - {"name", "arguments"}:
                return False
            name, arguments = call.get("name"), call.get("arguments")
            if not isinstance(name, str) or name not in self._tools:
                return False
            if not isinstance(arguments, dict | None):
                return False
            arguments_text = write_json(arguments or {})
        except ValueError:
            return False
        self._start_call(name)
        self._events.append(ArgumentsDelta(self._index, arguments_text))
        return True

    def _start_call(self, name: str) -> None:
        self._index += 1
        self._events.append(CallStarted(self._index, name))
