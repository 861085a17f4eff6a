"""K and V of all lanes, in the memory that graphs read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from glmserve.graphs.session import Array
from glmserve.model_config import ModelConfig


class LaneCaches:
    """The caches of all layers and lanes. Slots behind a lane's tokens hold finite numbers.

    Args:
        dtype: of the numbers.
    """

    def __init__(self, model: ModelConfig, lanes: int, total_len: int, dtype: DTypeLike) -> None:
        lead = (model.num_layers, lanes, model.num_kv_heads)
        self.keys: Array = np.zeros((*lead, model.head_dim, total_len), dtype)
        self.values: Array = np.zeros((*lead, total_len, model.head_dim), dtype)
        self._spoiled = np.zeros(lanes, dtype=np.bool_)

    @property
    def num_bytes(self) -> int:
        """Of all caches."""
        return self.keys.nbytes + self.values.nbytes

    def inputs(self, first: int, count: int) -> dict[str, Array]:
        """The graph's inputs that are the caches of lanes first..first+count-1."""
        lanes = slice(first, first + count)
        found = {}
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            found[f"keys.{layer}"], found[f"values.{layer}"] = keys[lanes], values[lanes]
        return found

    def begin(self, lane: int) -> None:
        """Clear a lane for a new sequence, if the last one left numbers that are not finite there.

        A masked slot has weight 0, and 0 times infinity would spoil the sum.
        """
        if self._spoiled[lane]:
            self.keys[:, lane] = 0
            self.values[:, lane] = 0
            self._spoiled[lane] = False

    def append(self, lane: int, start: int, keys: Array, values: Array) -> None:
        """Write the K and V of several tokens of one sequence.

        Args:
            start: slot of the first token.
            keys: [layers, Hkv, D, n]
            values: [layers, Hkv, n, D]
        """
        end = start + keys.shape[-1]
        self.keys[:, lane, :, :, start:end] = keys
        self.values[:, lane, :, start:end] = values
        self._spoiled[lane] |= not (_are_finite(keys) and _are_finite(values))

    def append_one(
        self, lanes: Sequence[int], slots: Sequence[int], keys: Array, values: Array
    ) -> None:
        """Write the K and V of one token of several sequences.

        Args:
            keys: [layers, n, Hkv, D]
            values: [layers, n, Hkv, D]
        """
        # Advanced indices with a slice between them put their axis first.
        self.keys[:, lanes, :, :, slots] = keys.swapaxes(0, 1)
        self.values[:, lanes, :, slots] = values.swapaxes(0, 1)
        if not (_are_finite(keys) and _are_finite(values)):
            self._spoiled[lanes] = True


def _are_finite(numbers: Array) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(numbers.sum(dtype=np.float64)))
