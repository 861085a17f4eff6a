"""The manifest of a compiled folder: what the folder is for, how it was made, and its files.

It is JSON. A folder is served only if the manifest is of this format and each file has the length
and the SHA-256 that it names, so nothing else is ever run by mistake.
"""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

import msgspec

from glmserve import __version__
from glmserve.config import (
    COMPILED_MANIFEST,
    GraphAttention,
    GraphTarget,
    LoadProgress,
    Quantization,
    ReportProgress,
    RopeScaling,
)
from glmserve.errors import CheckpointError

FORMAT = 1


class FileEntry(msgspec.Struct, frozen=True):
    """A file of the folder."""

    size: int
    """Bytes"""
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """See the module."""

    glmserve_format: int = FORMAT
    glmserve: str = __version__
    """Version that compiled the folder."""
    runtime: GraphTarget
    versions: dict[str, str]
    """Of the packages that wrote the graphs."""
    attention: GraphAttention
    dtype: str
    """Of activations and of weights that are not quantised."""
    quantization: Quantization | None
    """Of the layers' linear weights."""
    rope_scaling: RopeScaling | None
    """The meaning of rope_ratio, if an option gave it."""
    total_len: int
    """Longest context."""
    prompt_len: int
    """New tokens in a call of the base graph; 0: the graph is paged."""
    batch_sizes: tuple[int, ...]
    """Lanes of the incremental graphs, ascending; empty: the graph is paged."""
    split: tuple[int, ...]
    """Layers of each part of the graphs."""
    weight_bytes: int
    num_parameters: int
    files: dict[str, FileEntry]
    """By name within the folder."""


def is_compiled(folder: Path) -> bool:
    """Whether a folder was written by `glmserve compile`."""
    return (folder / COMPILED_MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    path = folder / COMPILED_MANIFEST
    data = path.read_bytes()
    try:
        found = msgspec.json.decode(data, type=_AnyFormat).glmserve_format
    except msgspec.MsgspecError:
        raise CheckpointError(f"{path}: not a manifest of `glmserve compile`") from None
    if found != FORMAT:
        raise CheckpointError(
            f"{path}: its format is {found}, and this glmserve reads {FORMAT}; compile the "
            "checkpoint again with this version"
        )
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path}: damaged: {error}; compile the checkpoint again") from None


class _AnyFormat(msgspec.Struct):
    glmserve_format: int


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, readable by people."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / COMPILED_MANIFEST).write_bytes(text + b"\n")


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """The entries of all files in the folder, which has no manifest yet."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: FileEntry(path.stat().st_size, _sha256(path)) for path in files}


def check_files(folder: Path, manifest: Manifest, progress: ReportProgress) -> None:
    """Compare every file with its entry.

    Args:
        progress: called with bytes read and in all.

    Raises:
        CheckpointError: a file is missing, or is not the one that was written.
    """
    done, total = 0, sum(entry.size for entry in manifest.files.values())
    for name, entry in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            raise CheckpointError(
                f"{folder / COMPILED_MANIFEST}: {name} is not a name within the folder"
            )
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing, but {COMPILED_MANIFEST} lists it; copy the whole folder"
            )
        if path.stat().st_size != entry.size or _sha256(path) != entry.sha256:
            raise CheckpointError(
                f"{path}: not the file that was compiled; copy the folder again, or compile the "
                "checkpoint again"
            )
        done += entry.size
        progress(LoadProgress("weights", done, total))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
