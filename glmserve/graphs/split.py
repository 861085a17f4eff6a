"""Cuts a compiled model's layers into parts, one for each of several devices."""

from __future__ import annotations

from collections import defaultdict

import torch

from glmserve.config import CompilationConfig, SplitStrategy
from glmserve.errors import OptionError
from glmserve.graphs.checks import total_length
from glmserve.graphs.weights_file import StoredWeights
from glmserve.model_config import ModelConfig
from glmserve.model_config.layer_split import PartCosts, ranges, split_by_memory, split_equally
from glmserve.runner.limits import format_bytes


def parts_of(
    compilation: CompilationConfig, model: ModelConfig, weights: StoredWeights, dtype: torch.dtype
) -> list[range]:
    """Layers of each part of the graphs."""
    if compilation.split == 1:
        return [range(model.num_layers)]
    sizes: dict[str, int] = defaultdict(int)
    for name, stored in weights.items():
        sizes[name.split(".")[0]] += stored.num_bytes
    slots = max(compilation.batch_sizes) * total_length(compilation, model)
    costs = PartCosts(
        num_layers=model.num_layers,
        layer=sizes["layers"] // model.num_layers,
        layer_cache=2 * slots * model.num_kv_heads * model.head_dim * dtype.itemsize,
        first=sizes["embedding"],
        last=sizes["output"],
    )
    strategy, memory = compilation.split_strategy, compilation.device_memory
    return split_layers(costs, compilation.split, strategy, memory)


def split_layers(
    costs: PartCosts, count: int, strategy: SplitStrategy, device_memory: int | None
) -> list[range]:
    """Consecutive layers for each of `count` devices.

    Args:
        strategy: greedy fills one device after the other; equal gives each the same number of
            layers; loose makes the largest part as small as possible, KV cache included.
        device_memory: bytes of each device; None: not limited.

    Raises:
        OptionError: there are fewer layers than devices, a part does not fit, or greedy has no
            limit to fill up to.
    """
    if count > costs.num_layers:
        raise OptionError(f"--split {count}: the model has {costs.num_layers} layers")
    if strategy == "greedy":
        parts = ranges(_fill(costs, count, device_memory))
    elif strategy == "equal":
        parts = split_equally(costs.num_layers, count)
    else:
        parts = split_by_memory(costs, count)
    for number, layers in enumerate(parts):
        needed = costs.part(layers)
        if device_memory is not None and needed > device_memory:
            raise OptionError(
                f"--device-memory {format_bytes(device_memory)}: part {number + 1} of {count} "
                f"needs {format_bytes(needed)} for {len(layers)} layers; raise --split, or lower "
                "--total-len or --batch-sizes"
            )
    return parts


def _fill(costs: PartCosts, count: int, device_memory: int | None) -> list[int]:
    """As many layers as fit, in turn; at least one each, and the last gets the rest."""
    if device_memory is None:
        raise OptionError("--split-strategy greedy fills devices up to --device-memory; give it")
    sizes: list[int] = []
    start = 0
    for later in range(count - 1, 0, -1):
        stop = start + 1
        most = costs.num_layers - later
        while stop < most and costs.part(range(start, stop + 1)) <= device_memory:
            stop += 1
        sizes.append(stop - start)
        start = stop
    return [*sizes, costs.num_layers - start]
