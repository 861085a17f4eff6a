"""Which rows or columns of each parameter a rank holds."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from glmserve.contract.shard import Shard
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import kv_heads
from glmserve.models.parameters import Shape

_ROWS: Literal[0] = 0
_COLUMNS: Literal[1] = 1
_OF_INPUTS = ("input_scale", "input_offset", "shift")
"""Parameters of a linear module that belong to its inputs."""
_SUMMED = (".dense.bias", ".down.bias", ".dense.quant_bias", ".down.quant_bias")


class Cut(NamedTuple):
    """A rank's part of one parameter: these rows or columns, one range after the other."""

    dim: Literal[0, 1]
    ranges: tuple[range, ...]

    @property
    def size(self) -> int:
        """Rows or columns."""
        return sum(map(len, self.ranges))

    def shape(self, whole: Shape) -> Shape:
        """The shape of the part."""
        return (*whole[: self.dim], self.size, *whole[self.dim + 1 :])

    def copy(self, stored: Tensor, first_row: int, part: Tensor) -> None:
        """Copy from a stored tensor what belongs to the part, and cast it.

        Args:
            stored: some rows of the whole parameter.
            first_row: the first of them.
            part: of the whole parameter.
        """
        if self.dim == _COLUMNS:
            part.narrow(0, first_row, len(stored)).copy_(self.of(stored))
            return
        done = 0
        for rows in self.ranges:
            first, last = max(rows.start, first_row), min(rows.stop, first_row + len(stored))
            if first < last:
                target = part.narrow(0, done + first - rows.start, last - first)
                target.copy_(stored.narrow(0, first - first_row, last - first))
            done += len(rows)

    def of(self, parameter: Tensor) -> Tensor:
        """The part of a whole parameter, as a tensor of its own."""
        parts = [parameter.narrow(self.dim, r.start, len(r)) for r in self.ranges]
        return torch.cat(parts, dim=self.dim)


def cut_of(config: ModelConfig, name: str, shard: Shard) -> Cut | None:
    """The part of a parameter that a rank holds; None: all of it.

    Args:
        config: of the whole model.
        name: canonical name of a stored parameter, such as layers.0.qkv.codes.
    """
    if shard.size == 1:
        return None
    module, _, kind = name.rpartition(".")
    layer_module = module.rpartition(".")[2]
    if layer_module not in ("dense", "down") and kind in _OF_INPUTS:
        return None
    match layer_module:
        case "embedding" | "output":
            return Cut(_ROWS, (shard.part(config.vocab_size),))
        case "qkv":
            return Cut(_ROWS, _qkv_rows(config, shard))
        case "gate_up":
            halves = 2 if config.gated_ffn else 1
            own = shard.part(config.ffn_size)
            return Cut(_ROWS, tuple(_moved(own, i * config.ffn_size) for i in range(halves)))
        case "dense":
            heads = shard.part(config.num_heads)
            return _columns(config, kind, _scaled(heads, config.head_dim))
        case "down":
            return _columns(config, kind, shard.part(config.ffn_size))
    return None


def is_summed_bias(name: str) -> bool:
    """Whether a parameter is added to a sum over ranks, so that only rank 0 may have it."""
    return name.endswith(_SUMMED)


def _qkv_rows(config: ModelConfig, shard: Shard) -> tuple[range, ...]:
    """Rows of the rank's query heads, key heads and value heads."""
    keys = _scaled(kv_heads(config, shard), config.head_dim)
    queries = config.num_heads * config.head_dim
    own = _scaled(shard.part(config.num_heads), config.head_dim)
    values = queries + config.num_kv_heads * config.head_dim
    return own, _moved(keys, queries), _moved(keys, values)


def _columns(config: ModelConfig, kind: str, own: range) -> Cut | None:
    """The cut of a parameter whose weight is cut by these columns."""
    group = config.stored_group_size
    match kind:
        case "codes" if config.stored_bits == 4:  # two columns in a byte
            return Cut(_COLUMNS, (range(own.start // 2, own.stop // 2),))
        case "weight" | "codes":
            return Cut(_COLUMNS, (own,))
        case "scales" if group is not None:
            return Cut(_COLUMNS, (range(own.start // group, own.stop // group),))
        case "shift":  # one number for each column
            return Cut(_ROWS, (own,))
    return None  # one number for each row, or for all


def _scaled(heads: range, head_dim: int) -> range:
    return range(heads.start * head_dim, heads.stop * head_dim)


def _moved(rows: range, offset: int) -> range:
    return range(rows.start + offset, rows.stop + offset)
