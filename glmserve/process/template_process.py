"""The process that renders chat templates. It imports nothing that it does not need, to start fast.

A template is a program of a stranger's. Jinja's sandbox keeps it from everything but its variables;
the limits of the process keep it from running for ever and from filling the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import jinja2
import msgspec
from jinja2.exceptions import SecurityError

from glmserve.process.limited import Limits, answer_requests
from glmserve.process.template_environment import RefusedError, compile_template
from glmserve.process.template_messages import (
    LONGEST_TEXT,
    TIME_LIMIT,
    RenderRequest,
    RenderResult,
    RenderSetup,
)

_LIMITS = Limits(TIME_LIMIT, memory=2**29, stack=2**23)
_LONGEST_REASON = 300  # characters


def main(descriptor: int, parent: int) -> None:
    """Render templates for the server, until it closes the other end of the socket.

    Args:
        descriptor: file descriptor of the inherited socket.
        parent: id of the server's process. This process ends with it.
    """
    answer_requests(descriptor, parent, _LIMITS, _prepare)


def _prepare(data: bytes) -> Callable[[bytes], bytes]:
    templates = _Templates(msgspec.msgpack.decode(data, type=RenderSetup))

    def answer(frame: bytes) -> bytes:
        request = msgspec.msgpack.decode(frame, type=RenderRequest)
        return msgspec.msgpack.encode(_rendered(templates, request))

    return answer


class _Templates:
    """The templates, each compiled when it is first used."""

    def __init__(self, setup: RenderSetup) -> None:
        self._setup = setup
        self._compiled: dict[str, jinja2.Template] = {}
        self._now = datetime.now()

    def render(self, request: RenderRequest) -> list[str]:
        """The texts of all conversations of a request, for which time stands still."""
        self._now = datetime.now()
        template = self._compiled.get(request.template)
        if template is None:
            source = self._setup.templates[request.template]
            template = self._compiled[request.template] = compile_template(source, self._clock)
        variables = self._setup.variables
        return [_joined(template.generate(variables | each)) for each in request.conversations]

    def _clock(self) -> datetime:
        return self._now


def _rendered(templates: _Templates, request: RenderRequest) -> RenderResult:
    try:
        return RenderResult(_checked(templates.render(request)))
    except RefusedError as error:
        return RenderResult(problem=_line(str(error)), is_refusal=True)
    except SecurityError as error:
        return RenderResult(problem=f"it does what Jinja's sandbox forbids: {_line(str(error))}")
    except jinja2.TemplateSyntaxError as error:
        return RenderResult(problem=f"line {error.lineno}: {_line(str(error.message))}")
    except MemoryError:
        return RenderResult(problem="it needs too much memory")
    except RecursionError:
        return RenderResult(problem="it nests too deeply")
    except Exception as error:  # a template may raise anything that Python does
        return RenderResult(problem=_line(f"{type(error).__name__}: {error}"))


def _joined(pieces: Iterator[str]) -> str:
    """The text, of which no more is made than may be used."""
    parts, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > LONGEST_TEXT:
            raise ValueError(f"it writes more than {LONGEST_TEXT} characters")
        parts.append(piece)
    return "".join(parts)


def _checked(texts: list[str]) -> list[str]:
    for text in texts:
        text.encode()  # a lone surrogate cannot be sent
    return texts


def _line(text: str) -> str:
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())[:_LONGEST_REASON]
