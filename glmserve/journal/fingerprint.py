"""Identifies the model of a journal: its tokens have no meaning for another model."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

_SUFFIXES = {".jinja", ".json", ".model", ".safetensors", ".bin", ".pt", ".txt"}
"""Suffixes of files that determine what a model computes or how its text is tokenized."""
_SAMPLE_BYTES = 2**16
"""Bytes that are read of a file's beginning and of its end. Weights are too long to read whole."""


def fingerprint(folders: Iterable[Path], settings: Iterable[object]) -> str:
    """A digest of checkpoint folders and of settings that change what is computed.

    It covers each file's name, size, beginning and end. So weights that differ only in the middle
    have the same fingerprint.

    Args:
        folders: folders of the checkpoint and of a P-Tuning prefix.
        settings: values with a stable `repr`.

    Returns:
        32 hexadecimal digits.

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
    digest.update(f"{path.name}\0{size}\0".encode("utf-8", "surrogateescape"))
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        if size > _SAMPLE_BYTES:
            file.seek(max(_SAMPLE_BYTES, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
