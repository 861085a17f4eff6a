"""Reads a P-Tuning v2 prefix: keys and values of every layer, without rotary embedding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.model_config.prefix import PrefixConfig
from glmserve.model_config.sharding import WHOLE_MODEL, Part, kv_heads
from glmserve.models.checkpoint_files import read_tensors, weight_files
from glmserve.models.names import interleave_halves

_PREFIX = "transformer.prefix_encoder."


def load_prefix(
    config: ModelConfig, prefix: PrefixConfig, dtype: torch.dtype, part: Part = WHOLE_MODEL
) -> Tensor:
    """Read or compute the prefix of P slots, in float32, rounded once.

    Args:
        config: of the whole model.
        part: only its layers and key/value heads are returned.

    Returns:
        [layers, P, 2*Hkv, D], key heads before value heads, as in a layer's cache.

    Raises:
        CheckpointError: a tensor is missing, unexpected, damaged, or not of this model's shape.
    """
    stored = _read(prefix)
    rows = stored["embedding.weight"]  # [P, keys and values of all layers, or anything]
    if prefix.projection:
        rows = _project(prefix, torch.tanh(_project(prefix, rows, stored, 0)), stored, 2)
    shape = (config.num_layers, 2, config.num_kv_heads, config.head_dim)
    wanted = [prefix.length, math.prod(shape)]
    if list(rows.shape) != wanted:
        raise CheckpointError(
            f"{prefix.checkpoint}: a prefix of {list(rows.shape)} numbers, expected {wanted}; it "
            "is another model's"
        )
    own = kv_heads(config, part.shard)
    pairs = rows.view(-1, *shape)[..., own.start : own.stop, :]
    if part.layers is not None:
        pairs = pairs[:, part.layers.start : part.layers.stop]
    keys, values = pairs.transpose(0, 1).unbind(2)  # [layers, P, Hkv, D]
    if config.rope.axes > 1:
        keys = interleave_halves(keys, 3, config.rope.axes)
    return torch.cat((keys, values), dim=2).to(dtype)


def _project(prefix: PrefixConfig, x: Tensor, stored: dict[str, Tensor], layer: int) -> Tensor:
    weight, bias = (stored[f"trans.{layer}.{kind}"] for kind in ("weight", "bias"))
    for kind, found, wanted, what in (
        ("weight", weight.shape[1], x.shape[1], "columns"),
        ("bias", len(bias), len(weight), "numbers"),
    ):
        if found != wanted:
            raise CheckpointError(
                f"{prefix.checkpoint}: {_PREFIX}trans.{layer}.{kind}: expected {wanted} {what}, "
                f"found {found}"
            )
    return F.linear(x, weight, bias)


def _read(prefix: PrefixConfig) -> dict[str, Tensor]:
    """The tensors of the prefix by their names within it, in float32."""
    wanted = {"embedding.weight": 2}
    if prefix.projection:
        for layer in ("trans.0", "trans.2"):
            wanted |= {f"{layer}.weight": 2, f"{layer}.bias": 1}
    found = {}
    for path in weight_files(prefix.checkpoint):
        for name, tensor in read_tensors(path):
            own = name.removeprefix(_PREFIX)
            if wanted.get(own) != tensor.ndim or not name.startswith(_PREFIX):
                raise CheckpointError(
                    f"{path}: {name}: unexpected; a P-Tuning checkpoint of this config.json holds "
                    f"{', '.join(_PREFIX + own for own in wanted)}"
                )
            found[own] = tensor.float()
    if missing := wanted.keys() - found.keys():
        raise CheckpointError(f"{prefix.checkpoint}: {_PREFIX}{min(missing)}: missing")
    return found
