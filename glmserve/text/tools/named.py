"""Parsers for ChatGLM3 and GLM-4: the tool's name in the first line, then the arguments.

An ordinary answer of these models begins with an empty line, so a first line that is a tool's name
is a call. A response has at most one call, because these models wait for its result.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from glmserve.text.tools.json_text import ObjectScanner, write_json
from glmserve.text.tools.parser import ArgumentsDelta, CallStarted, StateParser
from glmserve.text.tools.python_call import read_python_call
from glmserve.text.tools.tool import Tool


class NamedParser(StateParser):
    """Reads the first line. Subclasses read the arguments in their model's form."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._state = self._read_name
        self._name = ""
        self._body = 0
        """Index in `_held` of the second line."""

    def _read_name(self) -> bool:
        indent = len(self._held) - len(self._held.lstrip())
        line, newline, _ = self._held[indent:].partition("\n")
        name = line.rstrip()
        if newline:
            if name not in self._tools:
                return self._refuse()
            self._name, self._body = name, indent + len(line) + 1
            self._state = self._read_body
            return True
        may_be_name = name in self._tools or any(tool.startswith(line) for tool in self._tools)
        return False if may_be_name else self._refuse()

    @abstractmethod
    def _read_body(self) -> bool:
        """Read the arguments from `_held[_body:]`."""

    def _read_content(self) -> bool:
        self._emit_content()
        return False

    def _finish(self) -> None:
        # A name alone is a complete call of a tool without parameters.
        alone = self._state == self._read_body and not self._held[self._body :].strip()
        if alone and not self._tools[self._name].parameters:
            self._call("{}")
        else:
            self._emit_content()

    def _refuse(self) -> bool:
        """Treat the response as content, not as a call."""
        self._state = self._read_content
        return True

    def _call(self, arguments: str = "") -> None:
        self._events.append(CallStarted(0, self._name))
        if arguments:
            self._events.append(ArgumentsDelta(0, arguments))


class NamedJsonParser(NamedParser):
    """GLM-4: the arguments are a JSON object, emitted as it arrives. Text after it is content."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._scanner = ObjectScanner()

    def _read_body(self) -> bool:
        arguments = self._held[self._body :].lstrip()
        if not arguments:
            return False
        if arguments[0] != "{":
            return self._refuse()
        self._held = arguments
        self._call()
        self._state = self._read_arguments
        return True

    def _read_arguments(self) -> bool:
        end = self._scanner.feed(self._held)
        if end:
            self._events.append(ArgumentsDelta(0, self._held[:end]))
        self._held = self._held[end:]
        if self._scanner.done:
            self._state = self._read_space
        return self._scanner.done

    def _read_space(self) -> bool:
        self._held = self._held.lstrip()
        return bool(self._held) and self._refuse()


class NamedPythonParser(NamedParser):
    """ChatGLM3: the arguments are a Python call in a code block, read when it is complete.

    An incomplete Python literal cannot be converted to JSON, so nothing is emitted before the end.
    If the body is not a complete call of literals, the whole response is content.
    """

    def _read_body(self) -> bool:
        return False

    def _finish(self) -> None:
        if self._state == self._read_body:
            try:
                arguments = read_python_call(_code(self._held[self._body :]), self._name)
            except ValueError:
                pass
            else:
                self._call(write_json(arguments))
                return
        super()._finish()


def _code(body: str) -> str:
    """The code within a code block, or the body itself if there is none.

    Raises:
        ValueError: the block is in another language.
    """
    code = body.strip()
    if code.startswith("```"):
        language, _, code = code[3:].partition("\n")
        if language.strip() not in ("", "python"):
            raise ValueError("not a block of Python")
    return code.removesuffix("```").rstrip()
