"""The folder of a golden: `golden.json`, which says what it is, and `tensors.safetensors`."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import NoReturn

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmserve import __version__
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig

_FORMAT = 1
_ABOUT, _TENSORS = "golden.json", "tensors.safetensors"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a golden is."""

    reference: str
    """What computed it, with its version and dtype."""
    checkpoint: str
    """Path of the checkpoint at that time."""
    ptuning_checkpoint: str | None
    rope_scaling: str | None
    architecture_sha256: str
    """See `architecture_digest`."""
    token_ids: list[int]
    num_layers: int
    format: int = _FORMAT
    glmserve: str = __version__


class Golden(msgspec.Struct, frozen=True):
    """A golden that was read."""

    about: About
    tensors: dict[str, Tensor]
    """float32 by the names of `names.py`."""


def write_golden(folder: Path, about: About, tensors: dict[str, Tensor]) -> int:
    """Write a golden to a new or empty folder; the tensors are rounded to float32.

    Returns:
        Bytes of the tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    save_file(rounded, folder / _TENSORS)
    text = msgspec.json.format(msgspec.json.encode(about))
    (folder / _ABOUT).write_bytes(text + b"\n")
    return sum(tensor.nbytes for tensor in rounded.values())


def read_golden(folder: Path) -> Golden:
    """Read a golden.

    Raises:
        CheckpointError: the folder is no golden, is of another version, or is damaged.
    """
    path = folder / _ABOUT
    try:
        about = msgspec.json.decode(path.read_bytes(), type=About)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no golden; `glmserve golden dump` writes one") from None
    except msgspec.DecodeError as error:
        _refuse(path, str(error))
    if about.format != _FORMAT:
        raise CheckpointError(
            f"{path}: has format {about.format}, this glmserve reads {_FORMAT}; dump it again"
        )
    try:
        return Golden(about, load_file(folder / _TENSORS))
    except (SafetensorError, OSError) as error:
        _refuse(folder / _TENSORS, str(error))


def _refuse(path: Path, reason: str) -> NoReturn:
    raise CheckpointError(f"{path}: cannot be read as a part of a golden: {reason}; dump it again")


_FORMAT_FIELDS = {
    "path",
    "stored_dtype",
    "stored_bits",
    "stored_group_size",
    "modelslim",
    "unknown_fields",
    "prefix",
    "shard",
    "stage",
    "first_layer",
}
"""Fields of ModelConfig that say how a model is stored, and not what it computes."""


def architecture_digest(model: ModelConfig) -> str:
    """SHA-256 of what a model computes, in hexadecimal digits: the same for a converted or compiled
    checkpoint."""
    fields = [f.name for f in dataclasses.fields(model) if f.name not in _FORMAT_FIELDS]
    text = repr([(name, getattr(model, name)) for name in fields])
    return hashlib.sha256(text.encode()).hexdigest()
