"""From what a user writes for a checkpoint to a folder on this machine."""

from __future__ import annotations

from pathlib import Path

from glmserve.errors import CheckpointError
from glmserve.hub import hf_cache, modelscope_cache
from glmserve.hub.fetch import ReportBytes, fetch
from glmserve.hub.files import Kind, missing_files
from glmserve.hub.name import HubName
from glmserve.hub.places import HubPlaces

_MOST_NAMED = 3
"""Missing files that an error names."""


def find(name: HubName, places: HubPlaces, kind: Kind = "model") -> Path | None:
    """The folder of a model in the caches, complete or not; a complete one comes first.

    Nothing is written, and no package is needed.
    """
    folders = [folder for folder in _cached(name, places) if folder is not None]
    complete = (folder for folder in folders if not missing_files(folder, kind))
    return next(complete, folders[0] if folders else None)


def resolve(
    name: HubName,
    places: HubPlaces,
    *,
    kind: Kind = "model",
    may_fetch: bool = True,
    progress: ReportBytes = lambda done, total: None,
) -> Path:
    """The folder of a model: of a cache, or else fetched into one.

    Args:
        kind: what the folder must have to be complete.
        may_fetch: fetch what the caches lack, unless the environment says that this machine is
            offline.
        progress: called with bytes fetched and in all.

    Raises:
        CheckpointError: no cache has the model as a whole, and it is not or cannot be fetched.
    """
    found = find(name, places, kind)
    missing = missing_files(found, kind) if found is not None else []
    if found is not None and not missing:
        return found
    if may_fetch and not places.is_offline:
        try:
            return fetch(name, places, progress)
        except CheckpointError as error:
            if found is not None or name.hub is not None:
                raise
            raise CheckpointError(f"no such file or folder; {error.message}") from None
    advice = f"fetch it by glmserve pull {name}"
    if places.is_offline:
        advice = "the environment says that this machine is offline"
    if found is None:
        raise CheckpointError(
            f"{name}: no such file or folder, and no model of this name in "
            f"{_searched(name, places)}; {advice}"
        )
    named = ", ".join(missing[:_MOST_NAMED]) + (", ..." if len(missing) > _MOST_NAMED else "")
    raise CheckpointError(f"{found}: the model {name} is not complete: {named} missing; {advice}")


def _cached(name: HubName, places: HubPlaces) -> list[Path | None]:
    """The folders of all caches that may have the model."""
    found: list[Path | None] = []
    if name.hub in (None, "hf"):
        found += [hf_cache.snapshot(places.hf_cache, other) for other in name.others("hf")]
    if name.hub in (None, "ms"):
        for other in name.others("ms"):
            found += modelscope_cache.folders_of(places.modelscope, other)
    return found


def _searched(name: HubName, places: HubPlaces) -> str:
    hf, modelscope = str(places.hf_cache), str(places.modelscope[-1])
    return {"hf": hf, "ms": modelscope}.get(name.hub or "", f"{hf} or {modelscope}")
