"""Which model a journal belongs to: tokens of one mean nothing to another."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

_SUFFIXES = {".json", ".model", ".safetensors", ".bin", ".pt", ".txt"}
"""Of files that say what a model computes, or how its text is spelled."""
_SAMPLE = 2**16
"""Bytes that are read of each end of a file; weights are too long to be read whole."""


def fingerprint(folders: Iterable[Path], settings: Iterable[object]) -> str:
    """A digest of checkpoint folders and of settings that change what is computed.

    Files count with name, size, beginning and end, so weights that differ in the middle alone are
    not told apart.

    Raises:
        OSError: a file cannot be read.
    """
    digest = blake2b(digest_size=16)
    for folder in folders:
        files = (path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
        for path in sorted(files):
            _update(digest, path)
    for setting in settings:
        digest.update(f"{setting!r}\0".encode())
    return digest.hexdigest()


def _update(digest: blake2b, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE))
        if size > _SAMPLE:
            file.seek(max(_SAMPLE, size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
