"""The process of `glmserve convert`: its progress, its report, and one line for what went wrong."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from tqdm import tqdm

from glmserve.config import ConversionConfig, LoadProgress
from glmserve.converter.convert import Report, convert
from glmserve.errors import StartupError


def main(conversion_json: str) -> NoReturn:
    """Convert as the JSON of a ConversionConfig says, and exit."""
    conversion = ConversionConfig(**json.loads(conversion_json))
    try:
        report = _convert_with_bar(conversion)
    except StartupError as error:
        _fail(error.message, error.exit_code)
    except OSError as error:
        _fail(f"{error.filename or conversion.target}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        sys.exit(130)
    print(render(conversion, report))
    sys.exit(0)


def render(conversion: ConversionConfig, report: Report) -> str:
    """The report as lines of text."""
    shared = f"{conversion.group_size} columns" if conversion.group_size else "a row"
    lines = [
        f"{conversion.target}: {conversion.bits} bits, one scale for {shared}",
        f"{'':10}{'weights':>9}{'relative error':>17}{'at worst':>11}",
    ]
    for kind, errors in sorted(report.errors.items()):
        mean = sum(errors) / len(errors)
        lines.append(f"{kind:10}{len(errors):9}{mean:17.3%}{max(errors):11.3%}")
    before, after = (size / 2**20 for size in (report.source_bytes, report.target_bytes))
    files = "1 file" if report.files == 1 else f"{report.files} files"
    lines.append(f"{before:,.1f} MiB -> {after:,.1f} MiB in {files}")
    return "\n".join(lines)


def _convert_with_bar(conversion: ConversionConfig) -> Report:
    with tqdm(desc="converting", unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def show(progress: LoadProgress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        return convert(conversion, show)


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"glmserve: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(exit_code)
