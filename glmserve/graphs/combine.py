"""Puts the static graphs of several compiled folders into one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from glmserve.config import CombinationConfig, ReportProgress
from glmserve.converter.folder import appearing_whole
from glmserve.errors import CheckpointError, OptionError
from glmserve.graphs import names
from glmserve.graphs.manifest import (
    Manifest,
    check_files,
    describe_files,
    is_compiled,
    read_manifest,
    write_manifest,
)


def combine_folders(combination: CombinationConfig, progress: ReportProgress) -> Manifest:
    """Write the target folder. It gets its name when it is complete.

    Args:
        progress: called with bytes checked of one folder, and in all of it.

    Raises:
        CheckpointError: a folder is not compiled, damaged, or of another compilation.
        OptionError: the folders hold no static graphs.
        OSError: a file cannot be read or written.
    """
    folders = [Path(folder) for folder in combination.folders]
    manifests = [_read(folder, progress) for folder in folders]
    for folder, manifest in zip(folders[1:], manifests[1:], strict=True):
        _check_alike(folders[0], manifests[0], folder, manifest)
    sizes = sorted({size for manifest in manifests for size in manifest.batch_sizes})
    with appearing_whole(Path(combination.partial), Path(combination.target)) as target:
        for folder, manifest in zip(folders, manifests, strict=True):
            _copy_new(folder, manifest, target)
        files = describe_files(target)
        graphs = [name for name in files if name.endswith((".onnx", ".bin"))]
        combined = msgspec.structs.replace(
            manifests[0],
            batch_sizes=tuple(sizes),
            weight_bytes=sum(files[name].size for name in graphs),
            files=files,
        )
        write_manifest(target, combined)
    return combined


def _read(folder: Path, progress: ReportProgress) -> Manifest:
    if not is_compiled(folder):
        raise CheckpointError(f"{folder}: not a folder of `glmserve compile`")
    manifest = read_manifest(folder)
    if manifest.attention != "lanes":
        raise OptionError(f"{folder}: one graph takes any number of sequences; only lanes combine")
    check_files(folder, manifest, progress)
    return manifest


def _check_alike(first: Path, one: Manifest, second: Path, other: Manifest) -> None:
    """Refuse folders that differ in more than their incremental graphs."""
    for field in one.__struct_fields__:
        if field in ("batch_sizes", "weight_bytes", "files"):
            continue
        if getattr(one, field) != getattr(other, field):
            raise CheckpointError(
                f"{second}: its {field} is {getattr(other, field)}, and that of {first} is "
                f"{getattr(one, field)}; compile both with the same options"
            )
    for name in _shared({*one.files, *other.files}):
        if one.files.get(name) != other.files.get(name):
            raise CheckpointError(
                f"{second}: its {name} is not that of {first}; compile both from the same "
                "checkpoint, with the same options"
            )


def _shared(files: set[str]) -> Sequence[str]:
    """Names of files that all folders must have in common."""
    prefix = names.incremental(0).partition("0")[0]
    return sorted(name for name in files if not name.startswith(prefix))


def _copy_new(folder: Path, manifest: Manifest, target: Path) -> None:
    for name in manifest.files:
        if not (target / name).exists():
            shutil.copyfile(folder / name, target / name)
