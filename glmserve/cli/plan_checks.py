"""What `glmserve plan` refuses before it simulates."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmserve.capacity.lengths import parse_length
from glmserve.errors import OptionError

if TYPE_CHECKING:
    from glmserve.capacity.calibration import Calibration

DRAWN: dict[str, Any] = {
    "requests": 500,
    "prompt_tokens": parse_length("256"),
    "output_tokens": parse_length("128"),
    "seed": 0,
}
"""Options of a load that is drawn, by destination, with their defaults."""

_PICTURES = (".png", ".svg")


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before anything is read.

    Raises:
        OptionError: they do.
    """
    if options.trace is not None:
        for name in DRAWN:
            if getattr(options, name) is not None:
                raise OptionError(
                    f"--{name.replace('_', '-')} is for --rate; the requests of --trace are known"
                )
    if not options.servers and options.slo_ttft is None and options.slo_itl is None:
        raise OptionError(
            "give --slo-ttft or --slo-itl, the times that users are to see, or --servers, the "
            "numbers of servers to compare"
        )
    if options.plot is not None:
        if options.plot.suffix not in _PICTURES:
            raise OptionError(f"--plot {options.plot}: the name must end in .png or .svg")
        check_folder("--plot", options.plot)


def check_calibration(options: argparse.Namespace, calibration: Calibration) -> None:
    """Refuse batches that were not measured.

    Raises:
        OptionError: a batch is larger than the calibrated server's.
    """
    largest = calibration.limits.max_sequences
    for size in options.max_batch_size or ():
        if size > largest:
            raise OptionError(
                f"--max-batch-size {size}: the calibrated server runs {largest} requests at once; "
                f"run `glmserve bench calibrate` with --max-batch-size {size}"
            )


def check_folder(option: str, file: Path) -> None:
    """Refuse a file that cannot be written for want of a folder.

    Raises:
        OptionError: there is none.
    """
    if not file.parent.is_dir():
        raise OptionError(f"{option} {file}: there is no folder {file.parent}")
