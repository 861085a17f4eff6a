"""Repositories on ModelScope, by its HTTP interface. The publisher's own package is large, and is
not needed: an index in JSON, and files that can be read from any byte on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from glmserve.errors import CheckpointError
from glmserve.hub.fetch import ReportBytes
from glmserve.hub.files import RepositoryFile
from glmserve.hub.modelscope_cache import MAIN, VERSION_FILE, stored_name, version_text
from glmserve.hub.name import HubName
from glmserve.hub.places import HubPlaces

_TIMEOUT = 60.0
"""Seconds without a byte."""
_ATTEMPTS = 5
"""Of one file whose connection breaks; each goes on where the last one ended."""
_PIECE = 2**20
_PART = ".glmserve-part"
"""Ends the name of a file that is not complete."""
_STATUS = {401: "it is private", 403: "it is private", 404: "there is no such model or revision"}


class ModelScopeRepository:
    """See Repository. Proxies are those of the environment, as for all of urllib."""

    def __init__(self, name: HubName, places: HubPlaces) -> None:
        self._name = name
        self._places = places
        self._revision = name.revision or MAIN
        self._base = f"{places.modelscope_endpoint}/api/v1/models/{quote(name.repository)}"

    def files(self) -> list[RepositoryFile]:
        """See Repository."""
        query = urlencode({"Revision": self._revision, "Recursive": "True"})
        with self._errors():
            with self._open(f"{self._base}/repo/files?{query}") as response:
                answer = json.load(response)
            return [_file(entry) for entry in _entries(answer) if entry.get("Type") == "blob"]

    def read(self, path: str) -> bytes:
        """See Repository."""
        with self._errors(), self._open(self._url(path)) as response:
            content: bytes = response.read()
            return content

    def fetch(self, files: list[RepositoryFile], progress: ReportBytes) -> Path:
        """See Repository."""
        folder = self._folder()
        total, done = sum(file.size for file in files), 0

        def report(size: int) -> None:
            progress(done + size, total)

        with self._errors():
            for file in files:
                target = folder / file.path
                if not (target.is_file() and target.stat().st_size == file.size):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._fetch(file, target, report)
                done += file.size
                report(0)
            (folder / VERSION_FILE).write_text(version_text(self._revision), encoding="utf-8")
        return folder

    def _folder(self) -> Path:
        root = self._places.modelscope[0]
        return root / self._name.owner / stored_name(self._name.model)

    def _fetch(self, file: RepositoryFile, target: Path, report: Callable[[int], None]) -> None:
        """Fetch one file. It has its name once it is complete."""
        part = target.with_name(target.name + _PART)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._append(file, part, report)
            except HTTPError:
                raise
            except (OSError, HTTPException) as error:
                if attempt == _ATTEMPTS or not _is_network(error):
                    raise
            if part.is_file() and part.stat().st_size >= file.size:
                break
        self._check(file, part)
        part.rename(target)

    def _append(self, file: RepositoryFile, part: Path, report: Callable[[int], None]) -> None:
        """Fetch what a part of a file lacks, up to where the connection ends."""
        size = part.stat().st_size if part.is_file() else 0
        headers = {"Range": f"bytes={size}-"} if size else {}
        if size >= file.size > 0:
            return
        with self._open(self._url(file.path), headers) as response:
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
        with part.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != file.sha256:
            part.unlink()
            raise CheckpointError(
                f"{self._name}: {file.path} was damaged on its way: its SHA-256 is {digest}; fetch "
                "it again"
            )

    def _url(self, path: str) -> str:
        return f"{self._base}/repo?{urlencode({'Revision': self._revision, 'FilePath': path})}"

    def _open(self, url: str, headers: dict[str, str] = {}) -> Any:  # noqa: B006
        cookie = self._places.modelscope_token
        more = {"Cookie": f"m_session_id={cookie}"} if cookie else {}
        request = Request(url, headers={"User-Agent": "glmserve", **headers, **more})
        return urlopen(request, timeout=_TIMEOUT)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except HTTPError as error:
            error.close()
            reason = _STATUS.get(error.code, f"HTTP status {error.code}")
            raise self._refused(f"{reason}; check the name, or set MODELSCOPE_API_TOKEN") from None
        except URLError as error:
            raise self._refused(str(error.reason)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._refused(" ".join(str(error).split())[:300]) from None

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


def _is_network(error: Exception) -> bool:
    return isinstance(error, ConnectionError | TimeoutError | HTTPException | URLError)
