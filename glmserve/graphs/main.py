"""The processes of `glmserve compile` and `glmserve combine`: progress bar, report, error line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from glmserve.config import CombinationConfig, CompilationConfig, LoadProgress, ReportProgress
from glmserve.contract.wire import decode_json
from glmserve.graphs.manifest import Manifest
from glmserve.process.failure import exit_with, repair_streams
from glmserve.process.interrupts import exit_immediately_on

_TERMINATED = 143  # as a shell reports SIGTERM


def main(command: str, config_json: str, *, debug: bool) -> NoReturn:
    """Compile a checkpoint or combine folders, and exit.

    Args:
        command: compile or combine.
        config_json: a CompilationConfig or a CombinationConfig.
        debug: print a traceback on errors.
    """
    repair_streams()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(_TERMINATED)
    )  # raises SystemExit, which removes unfinished files
    data = config_json.encode()
    if command == "compile":
        exit_with(partial(_compile, decode_json(data, CompilationConfig)), debug=debug)
    exit_with(partial(_combine, decode_json(data, CombinationConfig)), debug=debug)


def _compile(compilation: CompilationConfig) -> None:
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):  # the imports take seconds
        from glmserve.graphs.compile import compile_checkpoint
        from glmserve.graphs.report import render
        from glmserve.graphs.vendor.build import VENDOR_RUNTIMES, build

    manifest = _with_bar("compiling", partial(compile_checkpoint, compilation))
    print(render(compilation.target, manifest))
    if manifest.runtime in VENDOR_RUNTIMES:
        print(build(compilation))


def _combine(combination: CombinationConfig) -> None:
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):
        from glmserve.graphs.combine import combine_folders
        from glmserve.graphs.report import render

    manifest = _with_bar("checking", partial(combine_folders, combination))
    print(render(combination.target, manifest))


def _with_bar(what: str, work: Callable[[ReportProgress], Manifest]) -> Manifest:
    from tqdm import tqdm

    with tqdm(desc=what, unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def show(progress: LoadProgress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        return work(show)
