"""`glmserve models`: the models in the caches of this machine."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from glmserve.cli.doctor.table import align
from glmserve.cli.units import format_size
from glmserve.errors import CheckpointError
from glmserve.hub import hf_cache, modelscope_cache
from glmserve.hub.files import Kind, missing_files, weight_bytes
from glmserve.hub.name import HubName
from glmserve.hub.places import HubPlaces, hub_places
from glmserve.model_config import read_model_config
from glmserve.process.paths import escaped

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_HEAD = ("NAME", "WEIGHTS", "MEMORY", "SERVED")
_FORMATS = {"fits": 1.0, "fits as int8": 0.55, "fits as int4": 0.32}
"""Parts of the size of 16-bit weights that number formats take, with scales and what stays as it
is. Nothing else is counted, which doctor does."""
_LONGEST_REASON = 100


class CachedModel(msgspec.Struct, frozen=True):
    """A model of a cache."""

    name: str
    folder: str
    weight_bytes: int
    """Size of the weight files that are there."""
    memory: str
    """Whether the weights fit into the memory that is available now."""
    served: bool
    reason: str = ""
    """Why it is not served; empty if it is."""


def add_command(commands: Commands) -> None:
    """Add `models` to the command line."""
    parser = commands.add_parser(
        "models",
        help="list the models on this machine",
        description="List the models in the caches of Hugging Face and ModelScope: the size of "
        "their weights, whether these fit into the memory that is available now, and whether "
        "glmserve serves the architecture. Nothing is fetched or written. glmserve doctor NAME "
        "says it exactly, with the KV cache and for each device.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each model")


def run(options: argparse.Namespace) -> int:
    """Print the list."""
    places = hub_places(os.environ)
    models = list(cached_models(places, available_memory()))
    if options.json:
        for model in models:
            print(msgspec.json.encode(model).decode())
        return 0
    if not models:
        print(f"no models in {places.hf_cache} and {places.modelscope[-1]}")
        return 0
    rows = [[*_HEAD], *([*_row(model)] for model in models)]
    print("\n".join(align(rows, (False, True, False, False))))
    return 0


def cached_models(places: HubPlaces, memory: int) -> Iterator[CachedModel]:
    """The models of all caches.

    Args:
        memory: bytes that are available.
    """
    for name, folder in hf_cache.snapshots(places.hf_cache):
        yield _describe(name, folder, memory)
    for name, folder in modelscope_cache.repositories(places.modelscope):
        yield _describe(name, folder, memory)


def available_memory() -> int:
    """Bytes that processes can still take, as Linux estimates; 0: it does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    match = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _describe(name: HubName, folder: Path, memory: int) -> CachedModel:
    size = weight_bytes(folder)
    kind: Kind = "part" if (folder / "adapter_config.json").is_file() else "model"
    missing = missing_files(folder, kind)
    reason = f"not complete: {missing[0]} missing" if missing else _refusal(folder)
    return CachedModel(
        name=escaped(str(name)),
        folder=escaped(str(folder)),
        weight_bytes=size,
        memory=_memory(size, memory),
        served=not reason,
        reason=escaped(reason),
    )


def _refusal(folder: Path) -> str:
    """Why the architecture is not served; empty: it is."""
    try:
        read_model_config(folder)
    except CheckpointError as error:
        return error.message.removeprefix(f"{folder}/config.json: ").removeprefix(f"{folder}: ")
    return ""


def _memory(size: int, memory: int) -> str:
    if not memory:
        return "unknown"
    return next((text for text, part in _FORMATS.items() if size * part < memory), "too large")


def _row(model: CachedModel) -> Iterator[str]:
    yield model.name
    yield format_size(model.weight_bytes)
    yield model.memory
    reason = model.reason[:_LONGEST_REASON] + ("..." if model.reason[_LONGEST_REASON:] else "")
    yield "yes" if model.served else f"no: {reason}"
