"""The names of a server's adapters, and the content that each name means now.

An operator names folders, by options or by the admin routes. Beside them a folder of adapters may
be given: each of its subfolders that holds an adapter has a name without being loaded, and is
looked at again whenever a request asks for it, so new ones and new contents are found by
themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from glmserve.adapters import AdapterConfig, LoraConfig, digest, read_adapter_config, weights_file
from glmserve.config import AdapterConfig as Options
from glmserve.contract.adapter import AdapterSource
from glmserve.engine.adapters.slots import AdapterSlots
from glmserve.engine.adapters.version import AdapterVersion
from glmserve.errors import AdapterError, InvalidRequestError

_DEFAULTS = Options()
_CONFIG = "adapter_config.json"
_LONGEST_NAME = 200
"""Characters."""

_Signature = tuple[tuple[str, int, int, int], ...]
"""Of an adapter's files: name, size, time of the last change in ns, inode."""


class _Found(NamedTuple):
    """An adapter of the folder of adapters, as it was when it was last asked for."""

    signature: _Signature
    version: AdapterVersion


class AdapterCatalog:
    """Finds, adds and removes adapters by their names.

    Args:
        slots: of the runner.
        model_names: names of the model itself, which no adapter may have.
        options: the folder of adapters, and how large they may be.
        look: called on a thread with the folder of each new content.
    """

    def __init__(
        self,
        slots: AdapterSlots,
        model_names: Collection[str],
        options: Options = _DEFAULTS,
        look: Callable[[Path], None] | None = None,
    ) -> None:
        self.slots = slots
        self._model_names = frozenset(model_names)
        self._options = options
        self._look = look
        self._directory = options.directory
        self._named: dict[str, AdapterVersion] = {}
        self._found: dict[str, _Found] = {}  # by names in the folder of adapters
        self._ids = itertools.count(1)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def is_empty(self) -> bool:
        """Whether no name can mean an adapter."""
        return not self._named and self._directory is None

    async def find(self, name: str) -> AdapterVersion | None:
        """The content that a name means now; None: there is no adapter of this name.

        Raises:
            AdapterError: it is in the folder of adapters, and cannot be served.
        """
        if (version := self._named.get(name)) is not None:
            return version
        if self._directory is None or not _is_plain(name):
            return None
        async with self._lock(name):
            return await self._find(name, self._directory / name)

    def current(self) -> list[AdapterVersion]:
        """What the names mean, as far as their folders have been read."""
        named = self._named.values()
        found = (found.version for found in self._found.values())
        return [*named, *(version for version in found if version.name not in self._named)]

    async def names(self) -> dict[str, Path]:
        """The folder of each adapter that has a name. Those whose folder is gone are forgotten."""
        named = {version.name: version.folder for version in self._named.values()}
        if self._directory is None:
            return named
        found = await asyncio.to_thread(_subfolders, self._directory)
        for name in self._found.keys() - found.keys():
            self.slots.discard(self._found.pop(name).version)
        return {name: f for name, f in found.items() if name not in self._model_names} | named

    async def add(self, name: str, folder: Path, *, replace: bool = True) -> AdapterVersion:
        """Load an adapter and give it a name, in place of what had the name.

        Requests that have begun keep the content that they began with. If the content is the one
        that the name has already, nothing changes.

        Args:
            folder: an absolute path, or one in the folder of adapters.
            replace: False refuses a name that is taken.

        Raises:
            InvalidRequestError: the name cannot be given.
            AdapterError: the adapter cannot be served.
            EngineDeadError: the runner is gone.
        """
        self.slots.check_capacity()
        self._check_name(name)
        async with self._lock(name):
            old = self._named.get(name)
            if old is not None and not replace:
                raise InvalidRequestError(
                    f"the adapter {name!r} has already been loaded; load_inplace: true replaces it",
                    "load_inplace",
                )
            version = await self._read(name, (self._directory or Path.cwd()) / folder, old)
            try:
                await self.slots.load(version)
            except BaseException:  # also a client that left
                if version is not old:
                    self.slots.discard(version)
                raise
            self._named[name] = version
            if old is not None and version is not old:
                self.slots.discard(old)
            return version

    async def remove(self, name: str) -> AdapterVersion | None:
        """Take a name away. New requests do not find the adapter; those that have come finish with
        it, and then its memory is free.

        One in the folder of adapters only frees its memory: it is loaded anew when it is asked for.

        Returns:
            What the name meant; None: nothing.

        Raises:
            AdapterError: it is in the folder of adapters, and cannot be served.
        """
        if name not in self._named:
            await self.find(name)  # it may never have been asked for
        async with self._lock(name):
            version = self._named.pop(name, None)
            if version is None and name in self._found:
                version = self._found.pop(name).version
            if version is not None:
                self.slots.discard(version)
            return version

    async def _find(self, name: str, folder: Path) -> AdapterVersion | None:
        signature = await asyncio.to_thread(_signature, folder)
        found = self._found.get(name)
        if found is not None and found.signature == signature:
            return found.version
        old = self._found.pop(name).version if found is not None else None
        version = None
        try:
            if signature is not None:
                version = await self._read(name, folder, old)
                self._found[name] = _Found(signature, version)
        finally:
            if old is not None and version is not old:
                self.slots.discard(old)
        return version

    async def _read(self, name: str, folder: Path, old: AdapterVersion | None) -> AdapterVersion:
        """The content of a folder: the old version if it is the same, or a new one.

        Raises:
            AdapterError: it is no adapter, or cannot be served.
        """
        config, content = await asyncio.to_thread(self._read_files, folder)
        if old is not None and (old.digest, old.folder) == (content, folder):
            return old
        if self._look is not None:
            await asyncio.to_thread(self._look, folder)
        source = AdapterSource(next(self._ids), os.fspath(folder), content)
        return AdapterVersion(name, config.kind, source)

    def _read_files(self, folder: Path) -> tuple[AdapterConfig, str]:
        try:
            os.fspath(folder).encode()  # it is sent to the worker as UTF-8
            config = read_adapter_config(folder)
            check_size(config, self._options)
            return config, digest(folder)
        except (OSError, ValueError) as error:  # such as a path with a zero byte
            raise AdapterError(f"{os.fspath(folder)!r} cannot be read: {error}") from None

    def _check_name(self, name: str) -> None:
        if name in self._model_names:
            raise InvalidRequestError(f"{name!r} is the name of the model itself", "name")
        if not _is_name(name):
            raise InvalidRequestError(
                f"an adapter's name has 1 to {_LONGEST_NAME} printable characters and no comma",
                "name",
            )

    def _lock(self, name: str) -> asyncio.Lock:
        """Changes of one name, and looks at its files, come one after the other."""
        return self._locks.setdefault(name, asyncio.Lock())


def check_size(adapter: AdapterConfig, options: Options) -> None:
    """Check that the server has room for an adapter of this size.

    Raises:
        AdapterError: it has not.
    """
    if isinstance(adapter, LoraConfig):
        what, size = f"rank {adapter.largest_rank}", adapter.largest_rank
        option, room = "--max-lora-rank", options.max_lora_rank
    else:
        what, size = f"a prefix of {adapter.length} slots", adapter.length
        option, room = "--max-prefix-length", options.max_prefix_length
    if size > room:
        raise AdapterError(
            f"{adapter.folder}: {what} is more than {option} {room}; start the server with a "
            "larger one"
        )


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable() and "," not in name


def _is_plain(name: str) -> bool:
    """Whether a name can be that of a subfolder: it leads nowhere else."""
    return _is_name(name) and not name.startswith(".") and not {"/", "\\"} & set(name)


def _subfolders(directory: Path) -> dict[str, Path]:
    """The adapters in a folder by their names, as far as they can be looked at."""
    try:
        folders = sorted(directory.iterdir())
    except OSError:
        return {}
    return {f.name: f for f in folders if _is_plain(f.name) and _holds_adapter(f)}


def _holds_adapter(folder: Path) -> bool:
    try:
        return (folder / _CONFIG).is_file()
    except OSError:  # such as a folder of another user
        return False


def _signature(folder: Path) -> _Signature | None:
    """Changes when an adapter's files change; None: there is no adapter."""
    try:
        if not _holds_adapter(folder):
            return None
        files = [folder / _CONFIG]
        with contextlib.suppress(AdapterError):  # reading it says so
            files.append(weights_file(folder))
        stats = [(file.name, file.stat()) for file in files]
    except (OSError, ValueError):
        return None
    return tuple((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats)
