"""Reads lines from a terminal and writes answers to it."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from glmserve.cli.chat.commands import COMMANDS

PROMPT = "> "
_CONTINUED = ". "
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_UNSEEN = {code: None for code in range(32) if chr(code) not in "\n\t"} | {0x7F: None}
_UNSEEN |= dict.fromkeys(range(0x80, 0xA0))
"""Control characters, by which a text could change the terminal."""
_INPUT, _LOCAL = 0, 3
"""Indexes of the flags in what termios.tcgetattr gives."""


class LineReader(Protocol):
    """Reads what a user types."""

    def read(self, prompt: str) -> str:
        """A message, which may have several lines.

        Raises:
            EOFError: the user ends the chat.
            KeyboardInterrupt: the user takes the line back.
        """
        ...

    def answering(self) -> AbstractContextManager[None]:
        """While an answer is written: what is typed does not show, and is read afterwards."""
        ...


class PlainReader:
    """Lines as the terminal gives them; the readline of Python edits them, if there is one."""

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # input() uses it from now on

    def read(self, prompt: str) -> str:
        line = _input(prompt)
        lines = [line]
        while line.endswith("\\"):
            lines[-1] = line[:-1]
            line = _input(_CONTINUED)
            lines.append(line)
        return "\n".join(lines)

    def answering(self) -> AbstractContextManager[None]:
        return _silent_keys(keeps_returns=False)


class EditingReader:
    """Lines that prompt_toolkit edits: several rows, wide characters, history, completion.

    Args:
        history: file of what was typed before; None: it is not kept.

    Raises:
        ModuleNotFoundError: it is not installed.
    """

    def __init__(self, history: Path | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory, History, InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        keys = KeyBindings()

        def send(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.document.current_line_before_cursor.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        def begin_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        keys.add("enter")(send)
        keys.add("escape", "enter")(begin_line)
        kept: History = InMemoryHistory() if history is None else FileHistory(str(history))
        self._session: PromptSession[str] = PromptSession(
            history=kept,
            key_bindings=keys,
            multiline=True,
            prompt_continuation=_CONTINUED,
            completer=WordCompleter(list(COMMANDS), sentence=True),
            complete_while_typing=False,
        )

    def read(self, prompt: str) -> str:
        text: str = self._session.prompt(prompt)
        return text

    def answering(self) -> AbstractContextManager[None]:
        return _silent_keys(keeps_returns=True)


def line_reader(environment: Mapping[str, str], *, keeps_history: bool) -> LineReader:
    """The best reader that there is; a note on stderr says what a better one needs."""
    if not sys.stdout.isatty():
        return PlainReader()
    try:
        return EditingReader(_history_file(environment) if keeps_history else None)
    except ModuleNotFoundError:
        print(
            "glmserve: note: pip install 'glmserve[chat]' for editing, history and several rows",
            file=sys.stderr,
        )
        return PlainReader()


@contextlib.contextmanager
def _silent_keys(*, keeps_returns: bool) -> Iterator[None]:
    """Let the terminal not echo keys.

    Args:
        keeps_returns: Enter stays a carriage return, as programs that edit lines expect it.
    """
    try:
        before = termios.tcgetattr(sys.stdin)
    except (OSError, ValueError, termios.error):  # stdin is no terminal
        yield
        return
    changed = termios.tcgetattr(sys.stdin)
    changed[_LOCAL] &= ~termios.ECHO
    if keeps_returns:
        changed[_INPUT] &= ~termios.ICRNL
    termios.tcsetattr(sys.stdin, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _input(prompt: str) -> str:
    """A line. What is not for the answers' file is written to stderr."""
    if sys.stdout.isatty():
        return input(prompt)
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def show(text: str, is_thought: bool) -> None:
    """Write a part of an answer at once; on a terminal without what could change it."""
    if sys.stdout.isatty():
        text = text.translate(_UNSEEN)
        if is_thought:
            text = f"{_DIM}{text}{_PLAIN}"
    sys.stdout.write(text)
    sys.stdout.flush()


def notice(lines: str | Iterable[str]) -> None:
    """Write something that is no answer: to stderr, so that a pipe gets answers alone."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    print(text.translate(_UNSEEN), file=sys.stderr, flush=True)


def _history_file(environment: Mapping[str, str]) -> Path | None:
    """The file, which only its owner may read; None: it cannot be made."""
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(state) / "glmserve" / "chat_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError:
        return None
    return path
