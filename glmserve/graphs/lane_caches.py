"""K and V of all lanes, in the memory that graphs read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glmserve.graphs.session import Array
from glmserve.model_config import ModelConfig

NUMPY_TYPES = {"float32": "float32", "float16": "float16", "bfloat16": "uint16"}
"""What holds the numbers of a dtype; numpy has no bfloat16, so it moves their bits."""
_INFINITE = 0x7F80  # the exponent of bfloat16's infinities and NaNs


class LaneCaches:
    """The caches of some layers and all lanes. Slots behind a lane's tokens hold finite numbers.

    Args:
        dtype: name of the numbers' dtype.
    """

    def __init__(
        self, model: ModelConfig, layers: range, lanes: int, total_len: int, dtype: str
    ) -> None:
        self._layers = layers
        lead = (len(layers), lanes, model.num_kv_heads)
        self.keys: Array = np.zeros((*lead, model.head_dim, total_len), NUMPY_TYPES[dtype])
        self.values: Array = np.zeros((*lead, total_len, model.head_dim), NUMPY_TYPES[dtype])
        self._spoiled = np.zeros(lanes, dtype=np.bool_)

    @property
    def num_bytes(self) -> int:
        """Of all caches."""
        return self.keys.nbytes + self.values.nbytes

    def inputs(self, first: int, count: int) -> dict[str, Array]:
        """The graph's inputs that are caches, of lanes first..first+count-1."""
        lanes = slice(first, first + count)
        found = {}
        for number, layer in enumerate(self._layers):
            found[f"keys.{layer}"] = self.keys[number, lanes]
            found[f"values.{layer}"] = self.values[number, lanes]
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

    def append_one(self, lanes: Sequence[int], slots: Array, keys: Array, values: Array) -> None:
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
    if numbers.dtype == np.uint16:
        return not bool(((numbers & _INFINITE) == _INFINITE).any())
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(numbers.sum(dtype=np.float64)))
