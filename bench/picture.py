"""Takes the README's picture: a terminal with a real server and a real stream, as SVG.

    python bench/picture.py --output glmserve/guide/terminal.svg

The server listens on a free port, which the picture shows as 8000. Lines that are too long for the
picture are wrapped, and a long stream is cut; nothing else is changed.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "glmserve" / "guide" / "terminal.svg"
_URL = "http://127.0.0.1:8000"
_BODY = (
    '{"model": "glm-tiny", "stream": true, '
    '"messages": [{"role": "user", "content": "What is glmserve?"}]}'
)
_CURL = (
    f"curl -sN {_URL}/v1/chat/completions -H 'Content-Type: application/json' -d '{_BODY}'"
    """ | grep -o '"delta":{[^}]*}'"""
)
_STREAM_LINES = 9
_COLUMNS = 100
_WIDTH, _HEIGHT = 8.4, 19.0
"""Of a character, in pixels, at 14 pixels of monospace."""
_MARGIN, _TITLE = 18.0, 30.0


class Line(NamedTuple):
    """One line of the terminal."""

    text: str
    kind: str = "output"
    """A class of the style sheet: prompt, output or note."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the README's picture, as SVG.")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    output: Path = parser.parse_args().output
    banner, stream = record()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render(session(banner, stream)), encoding="utf-8")


def record() -> tuple[list[str], list[str]]:
    """Lines that the server and the client print."""
    command = [sys.executable, "-m", "glmserve", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            banner = list(_banner(server))
            url = next(line.split()[1] for line in banner if line.startswith("  URL"))
            url = url.removesuffix("/v1")
            client = subprocess.run(
                _CURL.replace(_URL, url), shell=True, check=True, capture_output=True, text=True
            )
        finally:
            server.terminate()
    return [line.replace(url, _URL) for line in banner], client.stdout.splitlines()


def _banner(server: subprocess.Popen[str]) -> Iterator[str]:
    """What the server prints until it is ready."""
    assert server.stdout is not None
    for line in server.stdout:
        yield line.rstrip("\n")
        if shlex.split(line)[:1] == ["curl"]:
            return
    raise SystemExit("the server did not start")


def session(banner: Sequence[str], stream: Sequence[str]) -> list[Line]:
    """Commands and what they print, as they stand in the terminal."""
    lines = [Line("$ glmserve serve", "prompt"), *map(Line, banner), Line("")]
    lines += [Line(f"$ {_CURL}", "prompt"), *map(Line, stream[:_STREAM_LINES])]
    if rest := len(stream) - _STREAM_LINES:
        lines.append(Line(f"({rest} more lines)", "note"))
    return lines


def render(lines: Iterable[Line]) -> str:
    """An SVG image of a terminal."""
    rows = [Line(part, line.kind) for line in lines for part in wrap(line.text, _COLUMNS)]
    width = 2 * _MARGIN + _COLUMNS * _WIDTH
    height = _TITLE + _MARGIN + len(rows) * _HEIGHT
    texts = "\n".join(
        f'<text class="{row.kind}" x="{_MARGIN:g}" y="{_TITLE + (n + 0.7) * _HEIGHT:g}">'
        f"{escape(row.text, quote=False)}</text>"
        for n, row in enumerate(rows)
        if row.text
    )
    buttons = "".join(
        f'<circle cx="{_MARGIN + 18 * n:g}" cy="15" r="5" fill="{colour}"/>'
        for n, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" \
height="{height:g}" role="img" aria-label="glmserve serve, and curl reading a stream from it">
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; \
white-space: pre; fill: #d0d7de; }}
.prompt {{ fill: #7ee787; }}
.note {{ fill: #8b949e; }}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
{buttons}
{texts}
</svg>
"""


def wrap(text: str, columns: int) -> list[str]:
    """Rows of at most so many columns, as a terminal breaks a line."""
    rows, used = [""], 0
    for character in text:
        size = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used + size > columns:
            rows.append("")
            used = 0
        rows[-1] += character
        used += size
    return rows


if __name__ == "__main__":
    main()
