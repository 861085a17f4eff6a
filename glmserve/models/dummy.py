"""Random weights from config.json alone, by seed: --load-format dummy, for measuring and for
tests."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import WHOLE_MODEL, Part, local_config
from glmserve.models.cuts import Cut, cut_of, is_summed_bias
from glmserve.models.parameters import Shape, is_held, parameter_shapes

_PERIOD = 1_048_573
"""Random numbers per parameter; larger parameters repeat them. It is prime, so no two rows are
equal."""


def dummy_weights(
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    progress: ReportProgress,
    seed: int,
    part: Part = WHOLE_MODEL,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the tensor of each parameter. Activations stay finite at any depth.

    Linear weights are uniform with variance 1/(columns); the variance of the two with results that
    are added to the residual stream is smaller by 1/(2*layers). Norms are 1, biases are small.

    Args:
        dtype: of all parameters.
        progress: called with bytes done and in all.
        seed: of the random numbers.
        part: only this part of the model is generated.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    residual_scale = 1.0 / math.sqrt(2 * config.num_layers)
    shapes, held = parameter_shapes(config), local_config(config, part)
    cuts = {name: cut_of(config, name, part.shard) for name in shapes}
    own = {
        name: shape if (c := cuts[name]) is None else c.shape(shape)
        for name, shape in shapes.items()
        if is_held(held, name)
    }
    done, total = 0, sum(map(math.prod, own.values())) * dtype.itemsize
    for name, shape in shapes.items():
        noise = _noise(name, shape, residual_scale, generator)
        if name not in own:
            continue  # its random numbers are drawn: all parts are of one model
        parameter = torch.empty(own[name], dtype=dtype, device=device)
        _fill(parameter, cuts[name], noise, name, shape)
        if part.shard.rank and is_summed_bias(name):
            parameter.zero_()
        done += parameter.nbytes
        yield name, parameter
        progress(LoadProgress("weights", done, total))


def _noise(
    name: str, shape: Shape, residual_scale: float, generator: torch.Generator
) -> Tensor | None:
    """float32 [n], random numbers that a parameter repeats; None: it is a norm's."""
    module, kind = name.split(".")[-2:]
    if module.endswith("norm"):
        return None
    if module == "embedding":
        deviation = 1.0
    elif kind == "bias":
        deviation = 0.02
    else:
        deviation = 1.0 / math.sqrt(shape[-1])
        if module in ("dense", "down"):
            deviation *= residual_scale
    bound = deviation * math.sqrt(3.0)  # of a uniform distribution with that deviation
    period = min(math.prod(shape), _PERIOD)
    return torch.empty(period).uniform_(-bound, bound, generator=generator)


def _fill(part: Tensor, cut: Cut | None, noise: Tensor | None, name: str, shape: Shape) -> None:
    """Write a part of a parameter.

    Args:
        cut: the part; None: all of it.
        noise: see `_noise`.
        shape: of the whole parameter.
    """
    if noise is None:
        part.fill_(1.0 if name.endswith(".weight") else 0.0)
        return
    noise = noise.to(part)
    if cut is None:
        _repeat(noise, part.view(-1), 0)
        return
    columns = math.prod(shape[1:])
    at_once = max(1, _PERIOD // columns)
    for first in range(0, shape[0], at_once):
        rows = noise.new_empty((min(at_once, shape[0] - first), *shape[1:]))
        _repeat(noise, rows.view(-1), first * columns)
        cut.copy(rows, first, part)


def _repeat(noise: Tensor, target: Tensor, offset: int) -> None:
    """Write a stretch of the endless repetition of `noise`, from `offset` on."""
    done = 0
    while done < len(target):
        start = (offset + done) % len(noise)
        count = min(len(noise) - start, len(target) - done)
        target[done : done + count] = noise[start : start + count]
        done += count
