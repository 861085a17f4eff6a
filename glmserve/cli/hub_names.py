"""Options that name a checkpoint as it is called on Hugging Face or ModelScope."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmserve.config import NamedAdapter
from glmserve.hub import HubName, find, resolve
from glmserve.hub.files import Kind, missing_files
from glmserve.hub.places import HubPlaces, hub_places
from glmserve.process.interrupts import exit_immediately_on

_PARTS = ("adapter", "merge_adapter", "ptuning_checkpoint")
"""Options that name what belongs to a model, and is none."""


def resolve_names(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Put a folder in the place of each name: one of a cache, or one that is fetched into it.

    Args:
        options: of any command; those with `keeps_hub_names` keep names that no cache has.
        environment: the environment variables.

    Raises:
        CheckpointError: see `hub.resolve`.
    """
    for attribute, value in list(vars(options).items()):
        kind: Kind = "part" if attribute in _PARTS else "model"

        def folder(name: HubName, kind: Kind = kind) -> Path | HubName:
            return _folder(name, hub_places(environment), options, kind)

        if isinstance(value, HubName):
            setattr(options, attribute, folder(value))
        elif isinstance(value, list):
            setattr(options, attribute, [_with_folder(each, folder) for each in value])


@contextmanager
def download_bar(name: HubName) -> Iterator[Callable[[int, int], None]]:
    """Shows a progress bar on a terminal, and a line elsewhere, once bytes are fetched.

    Ctrl-C ends the process at once: huggingface_hub would wait for its threads until all files are
    there. What has been fetched is kept, and the next fetch goes on with it.
    """
    # Imported here, so that commands that fetch nothing do not wait for it.
    from tqdm import tqdm

    bar: tqdm[None] | None = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            if not sys.stderr.isatty():
                print(f"glmserve: fetching {name}, {total:,} bytes", file=sys.stderr, flush=True)
            bar = tqdm(desc=f"fetching {name}", unit="B", unit_scale=True, disable=None)
        bar.total = total
        bar.update(done - bar.n)

    try:
        with exit_immediately_on(signal.SIGINT):
            yield report
    finally:
        if bar is not None:
            bar.close()


def _with_folder(value: Any, folder: Callable[[HubName], Any]) -> Any:
    """A member of a list of options, with a folder in the place of a name."""
    if isinstance(value, NamedAdapter) and isinstance(value.folder, HubName):
        return value._replace(folder=folder(value.folder))
    return value


def _folder(
    name: HubName, places: HubPlaces, options: argparse.Namespace, kind: Kind
) -> Path | HubName:
    if kind == "model" and getattr(options, "keeps_hub_names", False):
        found = find(name, places)
        is_usable = found is not None and (places.is_offline or not missing_files(found))
        return found if found is not None and is_usable else name
    with download_bar(name) as report:
        return resolve(name, places, kind=kind, progress=report)
