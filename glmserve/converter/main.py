"""The process of `glmserve convert`: progress bar, report, and one line for an error."""

from __future__ import annotations

import json
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from glmserve.config import ConversionConfig, LoadProgress
from glmserve.process.failure import exit_with, repair_streams
from glmserve.process.interrupts import exit_immediately_on

if TYPE_CHECKING:
    from glmserve.converter.convert import Report

_TERMINATED = 143  # as a shell reports SIGTERM


def main(conversion_json: str, *, debug: bool) -> NoReturn:
    """Convert a checkpoint and exit.

    Args:
        conversion_json: a ConversionConfig.
        debug: print a traceback on errors.
    """
    repair_streams()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(_TERMINATED)
    )  # raises SystemExit, which removes unfinished files
    conversion = ConversionConfig(**json.loads(conversion_json))
    exit_with(partial(_convert, conversion), debug=debug)


def _convert(conversion: ConversionConfig) -> None:
    print(render(conversion, _convert_with_bar(conversion)))


def render(conversion: ConversionConfig, report: Report) -> str:
    """The report as lines of text."""
    lines = [
        f"{conversion.target}: {_numbers(conversion)}{_inputs(conversion)}{_merged(conversion)}",
        f"{'':10}{'weights':>9}{'relative error':>17}{'at worst':>11}",
    ]
    for kind, errors in sorted(report.errors.items()):
        mean = sum(errors) / len(errors)
        lines.append(f"{kind:10}{len(errors):9}{mean:17.3%}{max(errors):11.3%}")
    before, after = (size / 2**20 for size in (report.source_bytes, report.target_bytes))
    files = "1 file" if report.files == 1 else f"{report.files} files"
    lines.append(f"{before:,.1f} MiB -> {after:,.1f} MiB in {files}")
    return "\n".join(lines)


def _numbers(conversion: ConversionConfig) -> str:
    """What the weights became."""
    if conversion.bits is None:
        return "numbers as in the source"
    shared = f"{conversion.group_size} columns" if conversion.group_size else "a row"
    return f"{conversion.bits} bits, one scale for {shared}"


def _merged(conversion: ConversionConfig) -> str:
    return f"; {conversion.merge_adapter} is merged" if conversion.merge_adapter else ""


def _inputs(conversion: ConversionConfig) -> str:
    """What becomes of the activations."""
    if not conversion.rounds_activations:
        return ""
    if conversion.calibration is None:
        return "; activations: 8 bits, one scale for a token"
    return "; activations: 8 bits, one scale by calibration"


def _convert_with_bar(conversion: ConversionConfig) -> Report:
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):  # the imports take seconds
        from tqdm import tqdm

        from glmserve.converter.convert import convert

    with tqdm(desc="converting", unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def show(progress: LoadProgress) -> None:
            is_text = progress.phase == "calibration"
            bar.desc, bar.unit = ("calibrating", "token") if is_text else ("converting", "B")
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        return convert(conversion, show)
