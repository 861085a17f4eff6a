"""Reads a checkpoint into canonical parameters, one at a time.

Stored tensors are memory-mapped, and cast while they are copied into parameters. So the model never
exists twice in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import WHOLE_MODEL, Part, local_config
from glmserve.models.checkpoint_files import read_tensors, weight_files
from glmserve.models.cuts import cut_of, is_summed_bias
from glmserve.models.names import Placement, is_ignorable, placements
from glmserve.models.parameters import Shape, is_held, stored_parameters

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def load_weights(
    config: ModelConfig,
    checkpoint: Path,
    dtype: torch.dtype,
    device: torch.device,
    progress: ReportProgress,
    part: Part = WHOLE_MODEL,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the canonical name and the tensor of each parameter, as soon as all its parts are read.

    Args:
        config: of the whole model.
        checkpoint: folder, or one weights file.
        dtype: of floating point parameters.
        device: of the parameters.
        progress: called with bytes of stored tensors read and in all.
        part: only this part of the model is read.

    Raises:
        CheckpointError: a tensor is missing, unexpected, damaged, of another shape, or of another
            kind of numbers; the message names the file and the tensor.
    """
    assembly = _Assembly(config, dtype, device, part)
    progress(LoadProgress("weights", 0, assembly.total_bytes))
    for stored in stored_tensors(config, checkpoint):
        if stored.placement is not None and assembly.wants(stored.placement):
            yield from assembly.add(stored.placement, stored.tensor)
            progress(LoadProgress("weights", assembly.done_bytes, assembly.total_bytes))


class StoredTensor(NamedTuple):
    """A tensor of a checkpoint; its shape and dtype match its placement."""

    path: Path
    name: str
    placement: Placement | None
    """None: the model does not use the tensor."""
    tensor: Tensor
    """Memory-mapped if the file's format allows it."""


def stored_tensors(config: ModelConfig, checkpoint: Path) -> Iterator[StoredTensor]:
    """Yield every tensor of the checkpoint.

    Raises:
        CheckpointError: see `load_weights`.
    """
    files = weight_files(checkpoint)
    missing = placements(config)
    for path, promised in files.items():
        found = set()
        for name, stored in read_tensors(path):
            found.add(name)
            if is_ignorable(config, name):
                yield StoredTensor(path, name, None, stored)
                continue
            placement = missing.pop(name, None)
            if placement is None:
                raise _surplus(config, path, name)
            _check(path, name, stored, placement)
            yield StoredTensor(path, name, placement, stored)
        if promised is not None and promised - found:
            raise CheckpointError(f"{path}: {min(promised - found)}: missing; the index lists it")
    required = {name: p for name, p in missing.items() if not p.optional}
    if required:
        raise _missing(files, required)


class _Assembly:
    """Parameters with rows that are not read yet."""

    def __init__(
        self, config: ModelConfig, dtype: torch.dtype, device: torch.device, part: Part
    ) -> None:
        self._config = config
        self._own = local_config(config, part)
        self._dtype = dtype
        self._device = device
        self._shard = part.shard
        self._shapes = {name: p.shape for name, p in stored_parameters(config).items()}
        self._parts: dict[str, Tensor] = {}
        self._rows_left: dict[str, int] = {}
        self.done_bytes = 0
        self.total_bytes = sum(
            math.prod(self._own_shape(name, p.shape)) * (p.dtype or dtype).itemsize
            for name, p in stored_parameters(config).items()
            if is_held(self._own, name)
        )

    def wants(self, placement: Placement) -> bool:
        """Whether the part has some of the tensor's numbers."""
        return is_held(self._own, placement.parameter)

    def add(self, placement: Placement, stored: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Copy a stored tensor into its rows; yield the parameter if all its rows are read."""
        name = placement.parameter
        shape = self._shapes.get(name, placement.shape)
        cut = cut_of(self._config, name, self._shard)
        own_shape = self._own_shape(name, shape)
        if name not in self._parts:
            dtype = placement.dtype or self._dtype
            # Rows that change places are cut when all are there; only qkv is reordered.
            held = shape if placement.reorders else own_shape
            self._parts[name] = torch.empty(held, dtype=dtype, device=self._device)
            self._rows_left[name] = shape[0]
            if placement.optional:
                self.total_bytes += math.prod(own_shape) * dtype.itemsize
        parameter = self._parts[name]
        if cut is None or placement.reorders:
            placement.copy(stored, parameter)
        else:
            cut.copy(placement.read(stored), placement.first_row, parameter)
        share = placement.shape[0] / shape[0]
        self.done_bytes += round(share * math.prod(own_shape)) * parameter.itemsize
        self._rows_left[name] -= placement.shape[0]
        if not self._rows_left[name]:
            whole = self._parts.pop(name)
            if cut is not None and placement.reorders:
                whole = cut.of(whole)
            if self._shard.rank and is_summed_bias(name):
                whole.zero_()
            yield name, whole

    def _own_shape(self, name: str, shape: Shape) -> Shape:
        """The shape of this rank's part of a parameter."""
        cut = cut_of(self._config, name, self._shard)
        return shape if cut is None else cut.shape(shape)


def _check(path: Path, name: str, stored: Tensor, placement: Placement) -> None:
    kinds = placement.accepts or (_FLOATS if placement.dtype is None else (placement.dtype,))
    if stored.dtype not in kinds:
        wanted = "floating point" if kinds == _FLOATS else " or ".join(map(_name, kinds))
        raise CheckpointError(
            f"{path}: {name}: expected {wanted} numbers, found {_name(stored.dtype)}"
        )
    is_column = placement.accepts is not None and stored.shape == (*placement.shape, 1)
    if stored.shape != placement.shape and not is_column:
        raise CheckpointError(
            f"{path}: {name}: expected shape {list(placement.shape)}, found {list(stored.shape)}"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _surplus(config: ModelConfig, path: Path, name: str) -> CheckpointError:
    if name in placements(config):
        return CheckpointError(f"{path}: {name}: stored a second time")
    return CheckpointError(
        f"{path}: {name}: unexpected; {config.path.name} asks for no such tensor"
    )


def _missing(
    files: dict[Path, frozenset[str] | None], missing: dict[str, Placement]
) -> CheckpointError:
    name, placement = next(iter(missing.items()))
    path = next(iter(files))
    place = path if len(files) == 1 else path.parent
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return CheckpointError(
        f"{place}: {name}: missing, expected shape {list(placement.shape)}{more}"
    )
