"""Repositories on Hugging Face, or on a mirror of it, by the package huggingface_hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.hub.fetch import ReportBytes
from glmserve.hub.files import RepositoryFile, sha256_of
from glmserve.hub.name import HubName
from glmserve.hub.places import HubPlaces
from glmserve.hub.statuses import meaning

_INSTALL = "pip install 'glmserve[hub]'"
_ATTEMPTS = 5
"""Of a fetch whose connection breaks; each goes on where the last one ended."""


class HuggingFaceRepository:
    """See Repository.

    Raises:
        CheckpointError: huggingface_hub is not installed.
    """

    def __init__(self, name: HubName, places: HubPlaces) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise CheckpointError(
                f"{name}: no cache of this machine has it as a whole, and fetching it needs the "
                f"package huggingface_hub; {_INSTALL}"
            ) from None
        self._hub: Any = huggingface_hub
        self._name = name
        self._places = places
        self._api: Any = huggingface_hub.HfApi(endpoint=places.hf_endpoint)
        self._commit = name.revision  # that of the files, once it is known

    def files(self) -> list[RepositoryFile]:
        """See Repository."""
        with self._errors():
            info = self._api.model_info(
                self._name.repository, revision=self._name.revision, files_metadata=True
            )
        self._commit = info.sha
        return [
            RepositoryFile(file.rfilename, file.size or 0, file.lfs and file.lfs.sha256)
            for file in info.siblings or ()
        ]

    def read(self, path: str) -> bytes:
        """See Repository."""
        with self._errors():
            url = self._hub.hf_hub_url(
                self._name.repository,
                path,
                revision=self._name.revision,
                endpoint=self._places.hf_endpoint,
            )
            headers = self._hub.utils.build_hf_headers()
            response = self._hub.utils.get_session().get(
                url, headers=headers, follow_redirects=True
            )
            self._hub.utils.hf_raise_for_status(response)
            content: bytes = response.content
            return content

    def fetch(self, files: list[RepositoryFile], progress: ReportBytes) -> Path:
        """See Repository."""
        bar = _progress_bar(progress, sum(file.size for file in files))
        with self._errors():
            new = [file for file in files if not self._is_cached(file)]
            folder = Path(self._attempt([file.path for file in files], bar))
            for file in new:
                self._check(file, folder / file.path)
            return folder

    def _is_cached(self, file: RepositoryFile) -> bool:
        found = self._hub.try_to_load_from_cache(
            self._name.repository,
            file.path,
            cache_dir=self._places.hf_cache,
            revision=self._commit,
        )
        return isinstance(found, str)

    def _check(self, file: RepositoryFile, path: Path) -> None:
        """Check what was fetched: huggingface_hub compares sizes alone."""
        if file.sha256 is None or (digest := sha256_of(path)) == file.sha256:
            return
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"{self._name}: {file.path} was damaged on its way: its SHA-256 is {digest}; fetch it "
            "again"
        )

    def _attempt(self, paths: list[str], bar: type[Any]) -> str:
        """Fetch, and go on after broken connections."""
        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                folder: str = self._hub.snapshot_download(
                    self._name.repository,
                    revision=self._name.revision,
                    cache_dir=self._places.hf_cache,
                    endpoint=self._places.hf_endpoint,
                    allow_patterns=paths,
                    tqdm_class=bar,
                )
                return folder
            except self._hub.errors.HfHubHTTPError:
                raise  # the hub has answered
            except (OSError, self._network_error()) as error:
                has_answered = isinstance(error.__cause__, self._hub.errors.HfHubHTTPError)
                if has_answered or (isinstance(error, OSError) and error.errno is not None):
                    raise
                failure = error
        assert failure is not None
        raise failure

    def _network_error(self) -> type[Exception]:
        """The base of the errors of the library by which huggingface_hub speaks HTTP."""
        base = self._hub.errors.HfHubHTTPError.__mro__[1]
        found: type[Exception] = base if issubclass(base, Exception) else OSError
        return found

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of the package become one line that says what to do."""
        errors, name = self._hub.errors, self._name
        try:
            yield
        except errors.GatedRepoError:
            raise self._refused("its owner must allow you to read it; set HF_TOKEN") from None
        except errors.RevisionNotFoundError:
            raise self._refused(f"it has no branch, tag or commit {name.revision!r}") from None
        except errors.RepositoryNotFoundError:
            raise self._refused(
                "there is no such model, or it is private; check the name, or set HF_TOKEN"
            ) from None
        except errors.OfflineModeIsEnabled:
            raise self._refused("HF_HUB_OFFLINE forbids to fetch it") from None
        except (OSError, self._network_error(), ValueError) as error:
            raise self._refused(_reason_of(error)) from None

    def _refused(self, reason: str) -> CheckpointError:
        where = self._places.hf_endpoint or self._hub.constants.ENDPOINT
        return CheckpointError(f"{self._name}: cannot be fetched from {where}: {reason}")


def _reason_of(error: Exception) -> str:
    """Why a request has failed, in one line. An error about a file that is in no cache has the
    hub's answer as its cause."""
    for each in (error, error.__cause__):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(status, int):
            return meaning(status, "HF_TOKEN")
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]


def _progress_bar(progress: ReportBytes, total: int) -> type[Any]:
    """A class in the place of tqdm that reports the bytes of all files together."""
    from tqdm import tqdm

    done: dict[int, float] = {}
    lock = threading.Lock()  # several files are fetched at the same time

    class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
        """Counts the bytes of one file, or of several; bars of other units count nothing."""

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings.pop("name", None)
            super().__init__(*arguments, **{**settings, "file": _Nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            if self.unit == "B":
                with lock:
                    done[id(self)] = self.n
                    progress(int(min(sum(done.values()), total)), total)
            return shown

    return Bar


class _Nowhere:
    """A file that keeps nothing: the bars themselves are not shown."""

    def write(self, text: str) -> None:
        """Drop the text."""

    def flush(self) -> None:
        """Nothing is held."""
