"""`glmserve bench calibrate --compare`: which options use this machine's CPUs best."""

from __future__ import annotations

import argparse

from glmserve.cli.measured_engine import check_model, measuring
from glmserve.cli.options import config_of
from glmserve.errors import OptionError

_COMPARED = ("threads", "cpus", "numa_node")


def check_comparable(options: argparse.Namespace) -> None:
    """Refuse what leaves nothing to compare.

    Raises:
        OptionError: the device is no CPU, or an option says which CPUs to use.
    """
    if options.device not in ("auto", "cpu"):
        raise OptionError(f"--compare compares uses of CPUs; leave out --device {options.device}")
    given = [name for name in _COMPARED if getattr(options, name) is not None]
    if options.tensor_parallel_size > 1:
        given.append("tensor_parallel_size")
    if given:
        raise OptionError(
            f"--compare tries values of --{given[0].replace('_', '-')}; leave the option out"
        )


async def compare(options: argparse.Namespace) -> list[str]:
    """Measure all choices, each with a worker of its own. Returns the lines of a table.

    Raises:
        OptionError: the model runs on another device than the CPU.
        StartupError: the model cannot be loaded.
    """
    from glmserve.capacity.cpu_choices import comparison, cpu_choices
    from glmserve.process.cpus import instruction_sets, usable_cores
    from glmserve.process.numa import usable_nodes

    glances, batch = [], 1
    has_amx = options.cpu_kernels == "auto" and "amx_bf16" in instruction_sets()
    for choice in cpu_choices(usable_cores(), usable_nodes(), has_amx=has_amx):
        print(f"\n{choice}")
        tried = argparse.Namespace(**{**vars(options), choice.option: choice.value})
        runner = config_of(tried)
        try:
            check_model(tried, runner)
        except OptionError as error:
            print(f"left out: {error}")
            continue
        async with measuring(tried, runner) as measured:
            if not measured.engine.info.device.startswith("cpu"):
                raise OptionError(
                    f"--compare compares uses of CPUs, and the model runs on "
                    f"{measured.engine.info.device}; give --device cpu"
                )
            glances.append(await measured.glance(choice))
            batch = measured.glance_batch
    return ["", *comparison(glances, batch)]
