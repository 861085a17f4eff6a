"""Options for adapters: LoRA and prefixes that requests choose by name."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.adapters import PrefixAdapterConfig, read_adapter_config
from glmserve.cli import values
from glmserve.config import AdapterConfig
from glmserve.errors import AdapterError, OptionError

_OF_DIRECTORY = 8
"""Adapters that are loaded at a time if only --adapter-dir is given."""


def add_adapter_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "adapters" to a command."""
    group = parser.add_argument_group("adapters")
    group.add_argument(
        "--adapter",
        type=values.named_adapter,
        action="append",
        metavar="NAME=PATH",
        help="adapter that requests choose by this name as their model: a folder with a LoRA or a "
        "prefix, as PEFT and programs that use it write it, or its name on a hub, as for "
        "--checkpoint; may be given several times",
    )
    group.add_argument(
        "--adapter-dir",
        type=Path,
        metavar="DIR",
        help="folder of adapters: each subfolder with an adapter_config.json is found by its name "
        "when a request asks for it, also new ones and new contents",
    )
    group.add_argument(
        "--max-adapters",
        "--max-loras",
        type=values.positive,
        metavar="N",
        help="adapters that are loaded at the same time; the others are loaded when requests ask "
        f"for them; default: the number of --adapter, {_OF_DIRECTORY} with --adapter-dir, else no "
        "adapter can be loaded",
    )
    group.add_argument(
        "--max-lora-rank",
        type=values.positive,
        default=AdapterConfig.max_lora_rank,
        metavar="R",
        help="largest rank of a LoRA adapter",
    )
    group.add_argument(
        "--max-prefix-length",
        type=values.positive,
        metavar="SLOTS",
        help="longest prefix of an adapter; default: the longest that --adapter names or "
        "--adapter-dir holds at the start, and else no prefix can be loaded. On GPUs and NPUs, "
        "attention is then torch's",
    )


def adapter_config(options: argparse.Namespace) -> AdapterConfig:
    """The server's adapters.

    Raises:
        OptionError: a name is given twice, or --adapter-dir is no folder.
    """
    named = tuple(options.adapter or ())
    names = [adapter.name for adapter in named]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"--adapter: two adapters have the name {name}")
    directory: Path | None = options.adapter_dir
    if directory is not None and not directory.is_dir():
        raise OptionError(f"--adapter-dir {directory}: no such folder")
    return AdapterConfig(
        named=tuple(adapter._replace(folder=adapter.folder.absolute()) for adapter in named),
        directory=directory.absolute() if directory is not None else None,
        max_lora_rank=options.max_lora_rank,
        max_prefix_length=max_prefix_length(options),
    )


def max_adapters(options: argparse.Namespace) -> int:
    """Adapters that are loaded at the same time.

    Raises:
        OptionError: the model has a prefix of its own.
    """
    wanted = options.max_adapters or options.adapter or options.adapter_dir
    if wanted and options.ptuning_checkpoint is not None:
        raise OptionError(
            "--ptuning-checkpoint gives every request its prefix, and cannot be combined with "
            "adapters; give the prefix a name: --adapter NAME=PATH"
        )
    if options.max_adapters is not None:
        given: int = options.max_adapters
        return given
    return max(len(options.adapter or ()), _OF_DIRECTORY if options.adapter_dir else 0)


def max_prefix_length(options: argparse.Namespace) -> int:
    """Most slots of a prefix; 0: none can be loaded."""
    if options.max_prefix_length is not None:
        given: int = options.max_prefix_length
        return given
    folders = [adapter.folder for adapter in options.adapter or ()]
    if options.adapter_dir is not None and options.adapter_dir.is_dir():
        folders += options.adapter_dir.iterdir()
    return max(map(_prefix_length, folders), default=0)


def _prefix_length(folder: Path) -> int:
    """Slots of the prefix in a folder; 0: it holds none. What is wrong with it is said later."""
    try:
        adapter = read_adapter_config(folder)
    except (AdapterError, OSError, ValueError):
        return 0
    return adapter.length if isinstance(adapter, PrefixAdapterConfig) else 0
