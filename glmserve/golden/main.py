"""The process of `glmserve golden`: dumps a golden, or compares a device with one."""

from __future__ import annotations

import signal
from functools import partial
from typing import NoReturn

from glmserve.config import GoldenComparison, GoldenDump
from glmserve.contract.wire import decode_json
from glmserve.process.failure import exit_with, repair_streams
from glmserve.process.interrupts import exit_immediately_on


def main(command: str, options_json: str, *, debug: bool) -> NoReturn:
    """Run the command and exit. The exit code of `compare` is 1 if the device differs.

    Args:
        command: dump or compare.
        options_json: a GoldenDump or a GoldenComparison.
        debug: print a traceback on errors.
    """
    repair_streams()
    run = _dump if command == "dump" else _compare
    exit_with(partial(run, options_json.encode()), debug=debug)


def _dump(options_json: bytes) -> None:
    options = decode_json(options_json, GoldenDump)
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):  # the imports take seconds
        from glmserve.golden.dump import dump
    print(dump(options))


def _compare(options_json: bytes) -> int:
    options = decode_json(options_json, GoldenComparison)
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):
        from glmserve.golden.compare import compare
        from glmserve.golden.report import lines
    comparison = compare(options)
    for line in lines(comparison, every_tensor=options.every_tensor):
        print(line)
    return 0 if comparison.is_alike else 1
