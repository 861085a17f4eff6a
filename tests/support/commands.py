"""Commands of glmserve, run in this process: another one would have to import torch first."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from unittest import mock

from glmserve.cli.main import main


class Finished(NamedTuple):
    """A command that has ended."""

    returncode: int | str | None
    stdout: str
    stderr: str


def run_here(*arguments: str, folder: Path | None = None, stdin: str | None = None) -> Finished:
    """Run `glmserve ARGUMENTS`.

    Args:
        folder: the current one meanwhile.
        stdin: None: a terminal.
    """
    output, errors = io.StringIO(), io.StringIO()
    with (
        _staying(),
        _input(stdin) as source,
        mock.patch("sys.stdin", source),
        contextlib.chdir(folder or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main(arguments)
        except SystemExit as end:
            return Finished(end.code, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _input(text: str | None) -> Iterator[IO[str]]:
    if text is not None:
        yield io.TextIOWrapper(io.BytesIO(text.encode()))
        return
    ours, theirs = os.openpty()
    try:
        with os.fdopen(theirs) as terminal:
            yield terminal
    finally:
        os.close(ours)


@contextlib.contextmanager
def _staying() -> Iterator[None]:
    """Commands that compute call the module's function instead of becoming its process."""

    def call(module: str, *arguments: str, debug: bool) -> None:
        importlib.import_module(module).main(*arguments, debug=debug)

    with contextlib.ExitStack() as patches:
        for name in ("compile", "convert", "golden"):
            patches.enter_context(mock.patch(f"glmserve.cli.{name}.become", call))
        yield
