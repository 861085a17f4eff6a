"""Repositories on ModelScope, by its HTTP interface. The publisher's own package is large, and is
not needed: an index in JSON, and files that can be read from any byte on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

from glmserve.errors import CheckpointError
from glmserve.hub.fetch import ReportBytes
from glmserve.hub.files import RepositoryFile, needed_files, sha256_of
from glmserve.hub.locks import locked
from glmserve.hub.modelscope_cache import (
    MAIN,
    VERSION_FILE,
    revision_of,
    stored_name,
    version_text,
)
from glmserve.hub.modelscope_http import ModelScopeClient, is_network, reason_of
from glmserve.hub.name import HubName
from glmserve.hub.places import HubPlaces

_ATTEMPTS = 5
"""Of one file whose connection breaks; each goes on where the last one ended."""
_PIECE = 2**20
_PART = ".glmserve-part"
"""Ends the name of a file that is not complete."""
_LOCK = ".glmserve-lock"
"""Ends the name of the file by which processes that want the same model take turns."""


class ModelScopeRepository:
    """See Repository."""

    def __init__(self, name: HubName, places: HubPlaces) -> None:
        self._name = name
        self._places = places
        self._client = ModelScopeClient(places.modelscope_token)
        self._listed: frozenset[str] | None = None  # paths of all files, once it has been asked
        self._revision = name.revision or MAIN
        self._base = f"{places.modelscope_endpoint}/api/v1/models/{quote(name.repository)}"

    def files(self) -> list[RepositoryFile]:
        """See Repository."""
        query = urlencode({"Revision": self._revision, "Recursive": "True"})
        with self._errors():
            with self._client.open(f"{self._base}/repo/files?{query}") as response:
                answer = json.load(response)
            files = [_file(entry) for entry in _entries(answer) if entry.get("Type") == "blob"]
        self._listed = frozenset(file.path for file in files)
        return files

    def read(self, path: str) -> bytes:
        """See Repository."""
        with self._errors(), self._client.open(self._url(path)) as response:
            content: bytes = response.read()
            return content

    def fetch(self, files: list[RepositoryFile], progress: ReportBytes) -> Path:
        """See Repository."""
        folder = self._folder()
        total, done = sum(file.size for file in files), 0

        def report(size: int) -> None:
            progress(done + size, total)

        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_name(f".{folder.name}{_LOCK}")):
                wanted = self._remove_others(folder, files)
                for file in files:
                    if file in wanted:
                        self._fetch(file, folder / file.path, report)
                    done += file.size
                    report(0)
                version = version_text(self._revision)
                (folder / VERSION_FILE).write_text(version, encoding="utf-8")
        return folder

    def _remove_others(self, folder: Path, files: list[RepositoryFile]) -> set[RepositoryFile]:
        """Remove what another revision has left, so that a fetch that is interrupted leaves no
        mixture of both that looks complete.

        Returns:
            The files to fetch.
        """
        is_same = revision_of(folder) in (None, self._revision)
        wanted = {f for f in files if not _is_there(f, folder / f.path, trusts_size=is_same)}
        gone = [file.path for file in wanted]
        if self._listed is not None:
            found = [RepositoryFile(path.name, 0) for path in folder.iterdir()]
            gone += [f.path for f in needed_files(found) if f.path not in self._listed]
        for path in gone:
            (folder / path).unlink(missing_ok=True)
        return wanted

    def _folder(self) -> Path:
        root = self._places.modelscope[0]
        return root / self._name.owner / stored_name(self._name.model)

    def _fetch(self, file: RepositoryFile, target: Path, report: Callable[[int], None]) -> None:
        """Fetch one file. It has its name once it is complete."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + _PART)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._append(file, part, report)
            except HTTPError:
                raise
            except (OSError, HTTPException) as error:
                if attempt == _ATTEMPTS or not is_network(error):
                    raise
            if part.is_file() and part.stat().st_size >= file.size:
                break
        self._check(file, part)
        part.rename(target)

    def _append(self, file: RepositoryFile, part: Path, report: Callable[[int], None]) -> None:
        """Fetch what a part of a file lacks, up to where the connection ends."""
        size = part.stat().st_size if part.is_file() else 0
        if size > file.size:  # another revision's
            part.unlink()
            size = 0
        if size == file.size > 0:
            return
        with self._client.open(self._url(file.path), size) as response:
            goes_on = response.status == 206
            with part.open("ab" if goes_on else "wb") as output:
                size = size if goes_on else 0
                while piece := response.read(_PIECE):
                    output.write(piece)
                    size += len(piece)
                    report(size)

    def _check(self, file: RepositoryFile, part: Path) -> None:
        size = part.stat().st_size if part.is_file() else 0
        if size != file.size:
            raise CheckpointError(
                f"{self._name}: {file.path} has {size} of {file.size} bytes; the connection broke "
                f"{_ATTEMPTS} times; the same command goes on with it"
            )
        if file.sha256 is None:
            return
        digest = sha256_of(part)
        if digest != file.sha256:
            part.unlink()
            raise CheckpointError(
                f"{self._name}: {file.path} was damaged on its way: its SHA-256 is {digest}; fetch "
                "it again"
            )

    def _url(self, path: str) -> str:
        return f"{self._base}/repo?{urlencode({'Revision': self._revision, 'FilePath': path})}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, HTTPException, ValueError) as error:
            raise self._refused(reason_of(error)) from None

    def _refused(self, reason: str) -> CheckpointError:
        where = self._places.modelscope_endpoint
        return CheckpointError(f"{self._name}: cannot be fetched from {where}: {reason}")


def _entries(answer: Any) -> list[dict[str, Any]]:
    """
    Raises:
        ValueError: the answer is no list of files.
    """
    try:
        entries = answer["Data"]["Files"]
        return [entry for entry in entries if isinstance(entry, dict)]
    except (KeyError, TypeError):
        raise ValueError("its list of files is not understood") from None


def _file(entry: dict[str, Any]) -> RepositoryFile:
    path = str(entry["Path"])
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"the name {path!r} leads out of the folder")
    return RepositoryFile(path, int(entry["Size"]), entry.get("Sha256") or None)


def _is_there(file: RepositoryFile, path: Path, *, trusts_size: bool) -> bool:
    """Whether a file is complete. Revisions often have files of equal sizes: weights.

    Args:
        trusts_size: the size is enough where the hub says nothing else.
    """
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return trusts_size if file.sha256 is None else sha256_of(path) == file.sha256
