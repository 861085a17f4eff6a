"""What a server can do and how long its steps take, as a file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from glmserve import __version__
from glmserve.capacity.step_costs import StepCosts
from glmserve.contract.step import RunnerLimits
from glmserve.errors import OptionError

FORMAT = 2


class Calibration(msgspec.Struct, frozen=True):
    """Written by `glmserve bench calibrate`, read by `glmserve plan`."""

    format: int
    version: str
    """Of glmserve."""
    command: str
    """That measured it, without the output."""
    device: str
    dtype: str
    limits: RunnerLimits
    costs: StepCosts


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write the file.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")


def read_calibration(path: Path) -> Calibration:
    """Read the file.

    Raises:
        OptionError: it is none, or one of another version.
        OSError: it cannot be read.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise OptionError(f"{path}: no file of `glmserve bench calibrate`") from None
    if (found.format, found.version) != (FORMAT, __version__):
        raise OptionError(
            f"{path}: measured by glmserve {found.version}, and this is {__version__}, whose steps "
            "may take another time; run `glmserve bench calibrate` again"
        )
    return found
