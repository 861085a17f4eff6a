"""`glmserve top`: what a server does at this moment, in a terminal."""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from glmserve.cli import values
from glmserve.cli.api_keys import ADMIN_KEY_VARIABLE, read_admin_key
from glmserve.errors import StartupError

if TYPE_CHECKING:
    from glmserve.engine import Moment

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_TIMEOUT = 10.0
"""Seconds without a byte after which the server counts as gone: it sends ten times a second."""
_LOOK = 1.5
"""Seconds of looking before a picture that is printed once."""
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_ALTERNATE, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def add_command(commands: Commands) -> None:
    """Add `top` to the command line."""
    parser = commands.add_parser(
        "top",
        help="show what a server does at this moment",
        description="Show the speed, times, KV cache and requests of a running server, as /board "
        "does in a browser. Where the output is no terminal, print them once.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "url",
        type=values.http_url,
        nargs="?",
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="address of the server, with its --root-path",
    )
    parser.add_argument(
        "--admin-key",
        type=values.api_key,
        metavar="KEY",
        help="the server's admin key, if it has one; the environment variable "
        f"{ADMIN_KEY_VARIABLE} is safer",
    )
    parser.add_argument("--once", action="store_true", help="print once, also in a terminal")


def run(options: argparse.Namespace) -> int:
    """Show the server until Ctrl-C, or once.

    Raises:
        StartupError: the server does not answer, or refuses the key.
    """
    moments = _moments(options.url.rstrip("/"), read_admin_key(options.admin_key))
    if options.once or not sys.stdout.isatty():
        _print_once(moments)
    else:
        _show(moments)
    return 0


def _print_once(moments: Iterable[Moment]) -> None:
    from glmserve.cli.top_view import TopView

    view, end = TopView(), time.monotonic() + _LOOK
    for moment in moments:
        view.take(moment)
        if time.monotonic() > end:
            break
    print("\n".join(view.lines(200, 10_000)))


def _show(moments: Iterable[Moment]) -> None:
    """Draw each moment over the one before, on the terminal's other screen."""
    from glmserve.cli.top_view import TopView

    view = TopView()
    sys.stdout.write(_ALTERNATE)
    try:
        for moment in moments:
            view.take(moment)
            size = shutil.get_terminal_size()
            lines = view.lines(size.columns, size.lines - 1)
            text = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
            sys.stdout.write(_HOME + text + _CLEAR_BELOW)
            sys.stdout.flush()
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()


def _moments(url: str, key: str | None) -> Iterator[Moment]:
    """The server's moments, until it ends the stream.

    Raises:
        StartupError: see run.
    """
    from glmserve.engine import Moment

    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    request = urllib.request.Request(f"{url}/board/events", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            for line in response:
                if line.startswith(b"data: "):
                    yield msgspec.json.decode(line[6:], type=Moment)
    except urllib.error.HTTPError as error:
        raise StartupError(f"{url}: {_words_of(error)}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise StartupError(f"{url} does not answer: {reason}") from None


def _words_of(error: urllib.error.HTTPError) -> str:
    """The server's own message, where the answer is one of glmserve."""
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code}; is this a glmserve of this version?"
