"""Reads a checkpoint into canonical parameters, one tensor at a time.

Stored tensors are memory-mapped and cast while they are copied into their place, so that no second
copy of the model ever exists.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.models.checkpoint_files import read_tensors, weight_files
from glmserve.models.names import Placement, is_ignorable, placements
from glmserve.models.parameters import Parameters, parameter_shapes

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def load_weights(
    config: ModelConfig,
    checkpoint: Path,
    dtype: torch.dtype,
    device: torch.device,
    progress: ReportProgress,
) -> Parameters:
    """All parameters in `dtype` on `device`.

    Args:
        checkpoint: folder, or one weights file.
        progress: called with bytes of parameters filled and in all.

    Raises:
        CheckpointError: a tensor is missing, unexpected, damaged, of another shape, or not of
            floating point; the message names the file and the tensor.
    """
    files = weight_files(checkpoint)
    missing = placements(config)
    parameters = {
        name: torch.empty(shape, dtype=dtype, device=device)
        for name, shape in parameter_shapes(config).items()
    }
    total = sum(p.nbytes for p in parameters.values())
    done = 0
    progress(LoadProgress("weights", 0, total))
    for path, promised in files.items():
        found = set()
        for name, stored in read_tensors(path):
            found.add(name)
            if is_ignorable(name):
                continue
            placement = missing.pop(name, None)
            if placement is None:
                raise _surplus(config, path, name)
            _check(path, name, stored, placement)
            if placement.optional:
                parameter = torch.empty(placement.shape, dtype=dtype, device=device)
                parameters[placement.parameter] = parameter
                total += parameter.nbytes
            placement.copy(stored, parameters[placement.parameter])
            done += stored.numel() * dtype.itemsize
            progress(LoadProgress("weights", done, total))
        if promised is not None and promised - found:
            raise CheckpointError(f"{path}: {min(promised - found)}: missing; the index lists it")
    required = {name: p for name, p in missing.items() if not p.optional}
    if required:
        raise _missing(files, required)
    return parameters


def _check(path: Path, name: str, stored: Tensor, placement: Placement) -> None:
    if stored.dtype not in _FLOATS:
        found = str(stored.dtype).removeprefix("torch.")
        raise CheckpointError(f"{path}: {name}: expected floating point numbers, found {found}")
    if stored.shape != placement.shape:
        raise CheckpointError(
            f"{path}: {name}: expected shape {list(placement.shape)}, found {list(stored.shape)}"
        )


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
