"""Calls between `<tool_call>` and `</tool_call>`, for models that were not trained to call tools.

    <tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>

The system text explains this form to ChatGLM-6B, ChatGLM2, CodeGeeX2 and glm-tiny. A result is
written between `<tool_response>` and `</tool_response>`, as the next question.
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

# Bounded, so that the cost per token does not grow with an endless head.
_HEAD = re.compile(
    r'\s{0,32}\{\s{0,32}"name"\s{0,32}:\s{0,32}"(?P<name>[^"\\]{1,256})"\s{0,32},'
    r'\s{0,32}"arguments"\s{0,32}:\s{0,32}(?=\{)'
)


def instructions(tools: Sequence[Tool]) -> str:
    """The system text that describes the tools. It is short, because every request contains it."""
    signatures = "\n".join(write_json(tool.signature()) for tool in tools)
    form = f'{OPEN}{{"name": "...", "arguments": {{...}}}}{CLOSE}'
    return f"You can call these functions:\n{signatures}\nTo call one, answer only:\n{form}"


def call_text(call: ToolCall) -> str:
    """A past call in the form in which the model writes it."""
    arguments = call.arguments.strip() or "{}"
    return f'{OPEN}{{"name": {write_json(call.name)}, "arguments": {arguments}}}{CLOSE}'


def result_text(content: str) -> str:
    """A tool's result in the form in which the model reads it."""
    return f"<tool_response>{content}</tool_response>"


def grammar(tools: Sequence[Tool], *, parallel: bool, or_json: str | None = None) -> str:
    """Lark grammar of one call; with `parallel`, of one or more calls, a line each.

    Args:
        or_json: what else the response may be; see `embedded_schema`.

    Raises:
        InvalidRequestError: the parameters of a tool are not a schema of an object.
    """
    calls = 'call ("\\n" call)*' if parallel else "call"
    lines = [f'start: (" " | "\\n")? {calls}']
    if or_json is not None:
        lines = [f'start: (" " | "\\n")? ({calls} | answer)', f"answer: {or_json}"]
    return "\n".join((*lines, *_calls(tools, OPEN)))


def grammar_with_text(tools: Sequence[Tool], *, parallel: bool) -> str:
    """Lark grammar of any text in which every opening mark is followed by a call.

    The text up to the mark is lazy: it ends with the first mark, and only a call can follow.

    Raises:
        InvalidRequestError: the parameters of a tool are not a schema of an object.
    """
    start = f"start: (opening call){'*' if parallel else '?'} rest"
    opening = f"opening[lazy]: /(?s:.*){OPEN}/"
    return "\n".join((start, opening, "rest: /(?s:.*)/", *_calls(tools, "")))


def _calls(tools: Sequence[Tool], opening: str) -> list[str]:
    """Rules for `call`. `opening` is the opening mark, or empty."""
    lines = [one_of("call", "call", len(tools))]
    for index, tool in enumerate(tools):
        head = f'{opening}{{"name": {write_json(tool.name)}, "arguments": '
        tail = f"}}{CLOSE}"
        lines.append(f"call_{index}: {lark_string(head)} args_{index} {lark_string(tail)}")
        lines.append(arguments_rule(f"args_{index}", tool))
    return lines


class TaggedParser(StateParser):
    """Emits the arguments of a call as they arrive, if its name comes first as usual.

    A call in another order, or without arguments, is emitted at its closing mark. If the response
    ends after the complete object, the closing mark may be missing.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._state = self._read_content
        self._body = 0
        """Index in `_held` of the text after an opening mark."""
        self._searched = 0
        """No mark begins in `_held` between `_body` and this index."""
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
        if not self._emit_whole_call(self._held[self._body : tag.start()]):
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
        """Read the closing marks of a call. If they are missing, the text is content."""
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
        if self._state == self._read_head and self._emit_whole_call(self._held[self._body :]):
            return
        if self._state in (self._read_content, self._read_head):
            self._emit_content()

    def _refuse(self, end: int) -> bool:
        """Treat `_held[:end]` as content, not as a call."""
        self._emit_content(end)
        self._state = self._read_content
        return True

    def _emit_whole_call(self, text: str) -> bool:
        """Emit `text` if it is the JSON of a call, in any layout. Returns whether it is."""
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
