"""Fetches models from the hubs, and asks the hubs what a model consists of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from glmserve.errors import CheckpointError
from glmserve.hub.files import CONFIGS, RepositoryFile, needed_files
from glmserve.hub.name import HubName
from glmserve.hub.places import HubPlaces

ReportBytes = Callable[[int, int], None]
"""Called with the bytes that are there, and those of all files."""


class Repository(Protocol):
    """One revision of a model on a hub."""

    def files(self) -> list[RepositoryFile]:
        """All files, with sizes.

        Raises:
            CheckpointError: there is no such model, or the hub cannot be reached.
        """
        ...

    def read(self, path: str) -> bytes:
        """A small file, without keeping it.

        Raises:
            CheckpointError: see `files`.
        """
        ...

    def fetch(self, files: list[RepositoryFile], progress: ReportBytes) -> Path:
        """Fetch files into the cache, going on with what is there of them.

        Returns:
            The folder that has them.

        Raises:
            CheckpointError: see `files`; or the disk is full, or the cache cannot be written.
        """
        ...


def repository(name: HubName, places: HubPlaces) -> Repository:
    """The repository of a model: on ModelScope for names with ms://, else on Hugging Face.

    Raises:
        CheckpointError: the package is missing that this hub needs.
    """
    if name.hub == "ms":
        from glmserve.hub.modelscope import ModelScopeRepository

        return ModelScopeRepository(name.on_modelscope(), places)
    from glmserve.hub.huggingface import HuggingFaceRepository

    return HuggingFaceRepository(name, places)


def fetch(name: HubName, places: HubPlaces, progress: ReportBytes) -> Path:
    """Fetch what a server needs of a model, and return its folder.

    Raises:
        CheckpointError: see `Repository`.
    """
    source = repository(name, places)
    files = source.files()
    wanted = needed_files(files)
    if not any(file.path in CONFIGS for file in wanted):
        raise CheckpointError(f"{name}: the repository has no config.json, so it is no model")
    if not any(file.path.endswith((".safetensors", ".bin")) for file in wanted):
        raise CheckpointError(
            f"{name}: the repository has no weights in safetensors or .bin, which glmserve reads"
        )
    return source.fetch(wanted, progress)
