"""Reads prefixes of P-Tuning v2 and of PEFT: keys and values of every layer, without rotary
embedding."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.adapters import PrefixAdapterConfig, weights_file
from glmserve.adapters.config import as_adapter_errors
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.model_config.prefix import PrefixConfig
from glmserve.model_config.sharding import WHOLE_MODEL, Part, kv_heads
from glmserve.models.checkpoint_files import read_tensors, weight_files
from glmserve.models.names import interleave_halves

_PREFIX = "transformer.prefix_encoder."
_PEFT_NAME = "prompt_embeddings"


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
    return _as_cached(config, rows, prefix.length, prefix.checkpoint, part).to(dtype)


def load_prefix_adapter(
    config: ModelConfig, adapter: PrefixAdapterConfig, dtype: torch.dtype, part: Part
) -> Tensor:
    """The same for a folder of PEFT or of the publisher's code.

    Raises:
        AdapterError: a tensor is missing, unexpected, damaged, or not of this model's shape.
    """
    with as_adapter_errors():
        if adapter.kind == "p-tuning-v2":
            weights = weights_file(adapter.folder)  # what its digest is of
            prefix = PrefixConfig(weights, adapter.length, adapter.projection)
            return load_prefix(config, prefix, dtype, part)
        _check_shape(config, adapter)
        rows = _read_peft(weights_file(adapter.folder))
        return _as_cached(config, rows, adapter.length, adapter.folder, part).to(dtype)


def _as_cached(config: ModelConfig, rows: Tensor, length: int, where: Path, part: Part) -> Tensor:
    """Rows [P, layers * 2 * Hkv * D], in the order of P-Tuning v2 and of PEFT, as `load_prefix`
    returns them, in float32."""
    shape = (config.num_layers, 2, config.num_kv_heads, config.head_dim)
    wanted = [length, math.prod(shape)]
    if list(rows.shape) != wanted:
        raise CheckpointError(
            f"{where}: a prefix of {list(rows.shape)} numbers, expected {wanted}; it is another "
            "model's"
        )
    own = kv_heads(config, part.shard)
    pairs = rows.view(-1, *shape)[..., own.start : own.stop, :]
    if part.layers is not None:
        pairs = pairs[:, part.layers.start : part.layers.stop]
    keys, values = pairs.transpose(0, 1).unbind(2)  # [layers, P, Hkv, D]
    if config.rope.axes > 1:
        keys = interleave_halves(keys, 3, config.rope.axes)
    return torch.cat((keys, values), dim=2)


def _check_shape(config: ModelConfig, adapter: PrefixAdapterConfig) -> None:
    """Check what the size of the weights alone does not tell."""
    for field, found, wanted in (
        ("num_attention_heads", adapter.heads, config.num_kv_heads),
        ("num_layers", adapter.layers, config.num_layers),
    ):
        if found is not None and found != wanted:
            raise CheckpointError(
                f"{adapter.folder}: {field} = {found}: this model's prefixes have {wanted}"
            )


def _read_peft(path: Path) -> Tensor:
    """The one tensor of a PEFT prefix, in float32: [P, keys and values of all layers]."""
    found = dict(read_tensors(path))
    if unexpected := found.keys() - {_PEFT_NAME}:
        raise CheckpointError(
            f"{path}: {min(unexpected)}: unexpected; PEFT's prefix tuning writes {_PEFT_NAME} alone"
        )
    if _PEFT_NAME not in found:
        raise CheckpointError(f"{path}: {_PEFT_NAME}: missing")
    return found[_PEFT_NAME].float()


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
