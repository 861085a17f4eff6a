"""Finds the weight files of a checkpoint and reads their tensors, memory-mapped."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glmserve.errors import CheckpointError
from glmserve.model_config.modelslim import find_files
from glmserve.model_config.reader import read_json_object
from glmserve.models.safetensors_header import read_header
from glmserve.process.paths import utf8_alias

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
"""Of safetensors; those that torch has. What a model does not need may have any of them."""
_LFS_POINTER = b"version https://git-lfs"


def weight_files(checkpoint: Path) -> dict[Path, frozenset[str] | None]:
    """Files to read, each with the tensor names that the index lists for it (None: no index).

    Preferred in this order: what ModelSlim quantised, model.safetensors, its shards,
    pytorch_model.bin, its shards.

    Raises:
        CheckpointError: there are no weight files, or the index is broken.
    """
    if checkpoint.is_file():
        if checkpoint.suffix not in _SUFFIXES:
            raise CheckpointError(
                f"{checkpoint}: not a weights file; expected one ending in "
                f"{', '.join(_SUFFIXES)}, or a folder"
            )
        return {checkpoint: None}
    quantized = find_files(checkpoint)
    if quantized is not None:
        weights = quantized.weights
        return _indexed_files(weights) if weights.suffix == ".json" else {weights: None}
    for name in _SINGLE:
        if (checkpoint / name).is_file():
            return {checkpoint / name: None}
        if (checkpoint / f"{name}.index.json").is_file():
            return _indexed_files(checkpoint / f"{name}.index.json")
    raise CheckpointError(
        f"{checkpoint}: no weights; expected {_SINGLE[0]} or {_SINGLE[1]}, "
        "or their .index.json and shards"
    )


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each tensor and the tensor, memory-mapped if the format allows it.

    Raises:
        CheckpointError: the file is missing, damaged, truncated, or not a weights file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if _starts_with(path, _LFS_POINTER):
        raise CheckpointError(f"{path}: only a Git LFS pointer, not the weights; run git lfs pull")
    if path.suffix == ".safetensors":
        yield from _read_safetensors(path)
    else:
        yield from _read_pickle(path)


def _starts_with(path: Path, prefix: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(prefix)) == prefix


def _indexed_files(index: Path) -> dict[Path, frozenset[str] | None]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing or empty")
    names: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        # A plain name only: an index must not reach outside its own folder.
        if not isinstance(file, str) or PurePosixPath(file).name != file or "\\" in file:
            raise CheckpointError(
                f"{index}: {tensor} is in {json.dumps(file)}, expected a file name beside the index"
            )
        names.setdefault(file, set()).add(tensor)
    for file, tensors in names.items():
        path = index.parent / file
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file, but {index.name} says it holds {min(tensors)}"
                + (f" and {len(tensors) - 1} more" if len(tensors) > 1 else "")
            )
        if path.suffix not in _SUFFIXES:
            raise CheckpointError(f"{index}: {file} does not end in {', '.join(_SUFFIXES)}")
    return {index.parent / file: frozenset(tensors) for file, tensors in sorted(names.items())}


def _read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The library checks the file. Its tensors of torch leave some bytes behind, each time (0.8.0),
    so these are made here: a worker may load thousands of adapters."""
    header = read_header(path)
    try:
        with utf8_alias(path) as alias:
            with safe_open(alias, framework="numpy") as file:
                names = sorted(file.keys())
            size = alias.stat().st_size
            data = torch.from_file(str(alias), shared=False, size=size, dtype=torch.uint8)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged or truncated safetensors file: {error}") from None
    for name in names:
        entry = header.entries[name]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise CheckpointError(f"{path}: {name}: its dtype {entry['dtype']} is not read")
        begin, end = (header.data_start + offset for offset in entry["data_offsets"])
        yield name, _mapped(data, begin, end, dtype).reshape(entry["shape"])


def _mapped(data: Tensor, begin: int, end: int, dtype: torch.dtype) -> Tensor:
    """Bytes of a mapped file as numbers; none of them is read.

    Writers of today align a tensor's first byte. For others, torch needs a storage that begins with
    this byte.
    """
    if begin % dtype.itemsize == 0:
        return data[begin:end].view(dtype)
    part = data.untyped_storage()[begin:end]
    return torch.empty(0, dtype=torch.uint8).set_(part).view(dtype)


def _read_pickle(path: Path) -> Iterator[tuple[str, Tensor]]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_archive(path)
    try:
        # Only the zip format of torch >= 1.6 can be memory-mapped. weights_only: no code is run.
        with utf8_alias(path) as alias, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the files that torch warns about are refused below
            data = torch.load(alias, map_location="cpu", mmap=is_zip, weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (
        Exception
    ):  # a damaged pickle may raise any error; torch's message suggests running its code
        raise CheckpointError(
            f"{path}: damaged, truncated, or holding more than tensors, which is never loaded"
        ) from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a dictionary of tensors, found {type(data)}")
    for name, tensor in data.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {name!r}: expected a tensor, found {type(tensor)}")
        if tensor.is_meta or tensor.is_nested or tensor.layout is not torch.strided:
            raise CheckpointError(f"{path}: {name!r}: expected a plain, dense tensor")
        yield name, tensor


def _check_archive(path: Path) -> None:
    """Refuse compressed archives: torch never compresses, so such a file is made to fill memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # torch.load reports the damage
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise CheckpointError(f"{path}: compressed or overlapping parts, which torch never writes")
