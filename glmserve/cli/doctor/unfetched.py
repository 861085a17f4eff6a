"""A checkpoint that is not on this machine yet: its config, and the sizes of its files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glmserve.cli.doctor.diagnosis import Download
from glmserve.cli.units import format_size
from glmserve.errors import CheckpointError
from glmserve.hub import HubName
from glmserve.hub.fetch import repository
from glmserve.hub.files import needed_files
from glmserve.hub.places import HubPlaces

_MOST_CONFIG = 2**20
"""Bytes of a config.json; larger ones are none."""


@contextmanager
def unfetched(name: HubName, places: HubPlaces) -> Iterator[tuple[Path, Download]]:
    """A folder with the config.json alone, until the context ends, and what would be fetched.

    Raises:
        CheckpointError: there is no such model, or the hub cannot be reached.
    """
    if places.is_offline:
        raise CheckpointError(
            f"{name}: it is in no cache of this machine, and the environment says that this "
            "machine is offline"
        )
    source = repository(name, places)
    files = needed_files(source.files())
    config = next((file for file in files if file.path == "config.json"), None)
    if config is None or config.size > _MOST_CONFIG:
        raise CheckpointError(f"{name}: the repository has no config.json, so it is no model")
    with tempfile.TemporaryDirectory(prefix="glmserve-doctor-") as parent:
        folder = Path(parent) / name.model
        folder.mkdir()
        (folder / "config.json").write_bytes(source.read("config.json"))
        size = sum(file.size for file in files)
        yield folder, Download(str(name), len(files), size, _disk_problem(name, places, size))


def _disk_problem(name: HubName, places: HubPlaces, size: int) -> str:
    """Why the files do not fit onto the disk; empty: they do."""
    target = places.modelscope[0] if name.hub == "ms" else places.hf_cache
    existing = next(path for path in (target, *target.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if size <= free:
        return ""
    return (
        f"{name}: {format_size(size)} would be fetched, and {target} has room for "
        f"{format_size(free)}; make room, or name another folder by HF_HUB_CACHE or "
        "MODELSCOPE_CACHE"
    )
