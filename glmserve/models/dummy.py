"""Random weights from config.json alone, by seed: --load-format dummy, for measuring and for
tests."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import Shape, count_parameters, parameter_shapes

_PERIOD = 1_048_573
"""Random numbers per parameter; larger parameters repeat them. It is prime, so no two rows are
equal."""


def dummy_weights(
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    progress: ReportProgress,
    seed: int,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the tensor of each parameter. Activations stay finite at any depth.

    Linear weights are uniform with variance 1/(columns); the variance of the two with results that
    are added to the residual stream is smaller by 1/(2*layers). Norms are 1, biases are small.

    Args:
        dtype: of all parameters.
        progress: called with bytes done and in all.
        seed: of the random numbers.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    residual_scale = 1.0 / math.sqrt(2 * config.num_layers)
    done, total = 0, count_parameters(config) * dtype.itemsize
    for name, shape in parameter_shapes(config).items():
        parameter = torch.empty(shape, dtype=dtype, device=device)
        _fill(parameter, name, shape, residual_scale, generator)
        done += parameter.nbytes
        yield name, parameter
        progress(LoadProgress("weights", done, total))


def _fill(
    parameter: Tensor, name: str, shape: Shape, residual_scale: float, generator: torch.Generator
) -> None:
    module, kind = name.split(".")[-2:]
    if module.endswith("norm"):
        parameter.fill_(1.0 if kind == "weight" else 0.0)
        return
    if module == "embedding":
        deviation = 1.0
    elif kind == "bias":
        deviation = 0.02
    else:
        deviation = 1.0 / math.sqrt(shape[-1])
        if module in ("dense", "down"):
            deviation *= residual_scale
    bound = deviation * math.sqrt(3.0)  # of a uniform distribution with that deviation
    flat = parameter.view(-1)
    period = min(len(flat), _PERIOD)
    noise = torch.empty(period).uniform_(-bound, bound, generator=generator).to(parameter)
    for start in range(0, len(flat), period):
        part = flat[start : start + period]
        part.copy_(noise[: len(part)])
