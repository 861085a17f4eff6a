"""The pytest plugin. Every pytest run in an environment with glmserve loads it, so it imports
nothing until its option is given."""

from __future__ import annotations

from pathlib import Path

import pytest

_CHECKS = Path(__file__).parent / "checks"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("glmserve", "the contract of a glmserve device")
    group.addoption(
        "--glmserve-device",
        metavar="NAME",
        help="check the device of this name; without paths, run glmserve's checks and nothing else",
    )
    group.addoption(
        "--glmserve-dtype",
        metavar="NAME",
        default="float32",
        choices=("auto", "float32", "float16", "bfloat16"),
        help="number format of the checks; default: float32",
    )
    group.addoption(
        "--glmserve-tolerance",
        metavar="NATS",
        type=float,
        help="largest error of a log-probability; default: 0.002 with float32, 0.1 with float16, "
        "0.6 with bfloat16",
    )
    group.addoption(
        "--glmserve-prepare",
        metavar="COMMAND",
        help="a command that makes what the device serves of each checkpoint, with {checkpoint} "
        "and {target} in it: for devices with a compiler",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the checks, unless paths were given."""
    if config.option.glmserve_device:
        from glmserve.process.torch_environment import prepare_for_torch

        prepare_for_torch()
    if config.option.glmserve_device and config.args_source != config.ArgsSource.ARGS:
        config.args = [str(_CHECKS)]
