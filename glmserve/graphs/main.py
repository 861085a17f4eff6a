"""The process of `glmserve compile`: progress bar, report, and one line for an error."""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import NoReturn

from glmserve.config import CompilationConfig, LoadProgress
from glmserve.contract.wire import decode_json
from glmserve.process.failure import exit_with, repair_streams
from glmserve.process.interrupts import exit_immediately_on

_TERMINATED = 143  # as a shell reports SIGTERM


def main(compilation_json: str, *, debug: bool) -> NoReturn:
    """Compile a checkpoint and exit.

    Args:
        compilation_json: a CompilationConfig.
        debug: print a traceback on errors.
    """
    repair_streams()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(_TERMINATED)
    )  # raises SystemExit, which removes unfinished files
    compilation = decode_json(compilation_json.encode(), CompilationConfig)
    exit_with(partial(_compile, compilation), debug=debug)


def _compile(compilation: CompilationConfig) -> None:
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):  # the imports take seconds
        from tqdm import tqdm

        from glmserve.graphs.compile import compile_checkpoint
        from glmserve.graphs.report import render

    with tqdm(desc="compiling", unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def show(progress: LoadProgress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        manifest = compile_checkpoint(compilation, show)
    print(render(compilation, manifest))
