"""A checkpoint's parameters on their way into a weights file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from glmserve.config import Quantization
from glmserve.graphs.weights_file import PlainLinear, StoredArray, StoredLinear, WeightsFile
from glmserve.model_config import ModelConfig
from glmserve.models.packing import pack_parameters


def store_parameters(
    parameters: Iterable[tuple[str, Tensor]],
    config: ModelConfig,
    file: WeightsFile,
    quantization: Quantization | None,
) -> dict[str, StoredArray | StoredLinear]:
    """Write all parameters to the file, one at a time.

    Args:
        parameters: canonical names and tensors, see load_weights and with_rotary_halves.
        quantization: what plain linear weights are quantised to; None: nothing.

    Returns:
        Canonical name to the place in the file. With tied embeddings `output.weight` is that of
        the embedding.
    """
    packed = pack_parameters(parameters, config, file, quantization)
    stored = {
        name: file.add(value) if isinstance(value, Tensor) else value
        for name, value in packed.items()
    }
    stored.setdefault("output.weight", PlainLinear(stored["embedding.weight"]))
    return stored


def store_prefix(
    prefix: Tensor, config: ModelConfig, file: WeightsFile
) -> dict[str, StoredArray | StoredLinear]:
    """Write a P-Tuning v2 prefix [layers, P, 2*Hkv, D] in the layout of a lane's cache."""
    stored: dict[str, StoredArray | StoredLinear] = {}
    for layer, heads in enumerate(prefix):
        keys, values = heads.transpose(0, 1).chunk(2)  # [Hkv, P, D]
        keys = keys[..., head_order(config)].transpose(1, 2)
        stored[f"prefix.{layer}.keys"] = file.add(keys[None])
        stored[f"prefix.{layer}.values"] = file.add(values[None])
    return stored


def with_rotary_halves(
    parameters: Iterable[tuple[str, Tensor]], config: ModelConfig
) -> Iterator[tuple[str, Tensor]]:
    """Sort the rows of each query and key head: first all first numbers of the rotated pairs, then
    all second ones.

    The model rotates neighbours; a graph then rotates halves, which are contiguous. It changes no
    product of a query and a key, because both are sorted alike.
    """
    order = head_order(config)
    heads = config.num_heads + config.num_kv_heads
    rows = torch.arange((heads + config.num_kv_heads) * config.head_dim)
    rotated = rows[: heads * config.head_dim].view(heads, -1)
    rotated.copy_(rotated[:, order])
    for name, parameter in parameters:
        yield name, parameter[rows] if ".qkv." in name else parameter


def head_order(config: ModelConfig) -> Tensor:
    """int64 [D]: the dims of a head as the model has them, in the order of the graphs."""
    order = torch.arange(config.head_dim)
    pairs = order[: config.rope.dim].view(-1, 2)
    return torch.cat((pairs[:, 0], pairs[:, 1], order[config.rope.dim :]))
