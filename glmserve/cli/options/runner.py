"""The worker's config, made of the options for model, device and scheduling."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from glmserve.cli.cores import place_worker
from glmserve.cli.options.adapters import max_adapters, max_prefix_length
from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.process.npu_environment import npu_environment as npu_environment


def runner_config(options: argparse.Namespace) -> RunnerConfig:
    """The config of the worker process of a server.

    Raises:
        OptionError: the process may not use these CPUs, or two options contradict each other.
    """
    if options.max_step_tokens and options.max_step_tokens < (options.max_batch_size or 0):
        raise OptionError(
            f"--max-step-tokens {options.max_step_tokens} leaves some of --max-batch-size "
            f"{options.max_batch_size} requests without their token; raise it"
        )
    return config_of(
        options,
        drafts=bool(options.speculative_tokens),
        adapters=tuple((a.name, str(a.folder.absolute())) for a in options.adapter or ()),
        max_adapters=max_adapters(options),
        max_prefix_length=max_prefix_length(options),
    )


def config_of(options: argparse.Namespace, **further: Any) -> RunnerConfig:
    """The config of a command with the options for devices: each option is the field of its name.

    Args:
        further: fields that are not options, or that have another value.

    Raises:
        OptionError: the process may not use these CPUs, or two options contradict each other.
    """
    if options.kv_cache_memory and options.kv_cache_tokens:
        raise OptionError("--kv-cache-memory and --kv-cache-tokens say the same; give one of them")
    placement = place_worker(options.cpus, options.numa_node)
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name in RunnerConfig.__struct_fields__
    }
    others = {
        "cpus": placement.cpus,
        "numa_node": placement.numa_node,
        "npu": npu_environment(os.environ),
    }
    return RunnerConfig(**{**given, **others, **further})
