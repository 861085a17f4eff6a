"""The layout of a converted checkpoint: names of files, tensors and fields of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from glmserve.config import WeightBits
from glmserve.converter.rounding import relative_error, round_weight
from glmserve.models.weights import StoredTensor

RoundingError = float
"""Frobenius norm of the difference, divided by that of the weight."""


class Layout(Protocol):
    """Rounds tensors one by one, and then writes what else the checkpoint needs."""

    weights_name: str
    """Of the files of weights, without their suffix."""

    def keep(self, name: str) -> None:
        """Note that a tensor is stored as it was."""
        ...

    def round(
        self, stored: StoredTensor, dtype: torch.dtype
    ) -> tuple[RoundingError, dict[str, Tensor]]:
        """Round a layer's linear weight.

        Args:
            dtype: of the tensor in the source. That of `stored` is float32 if it was changed.

        Returns:
            The error, and the tensors to store, by name.

        Raises:
            ValueError: numbers are not finite, or too large.
        """
        ...

    def config_fields(self) -> Mapping[str, Any]:
        """What is added to config.json."""
        ...

    def finish(self, folder: Path) -> None:
        """Write further files."""
        ...


class OfficialLayout:
    """That of the official int8 and int4 checkpoints, see the package's docstring."""

    weights_name = "model"

    def __init__(self, bits: WeightBits, group_size: int | None) -> None:
        self._bits = bits
        self._group_size = group_size

    def keep(self, name: str) -> None:
        """Nothing is noted."""

    def round(
        self, stored: StoredTensor, dtype: torch.dtype
    ) -> tuple[RoundingError, dict[str, Tensor]]:
        rounded = round_weight(stored.tensor, self._bits, self._group_size)
        tensors = {stored.name: rounded.codes, f"{stored.name}_scale": rounded.scales}
        return rounded.relative_error, tensors

    def config_fields(self) -> Mapping[str, Any]:
        fields: dict[str, int] = {"quantization_bit": self._bits}
        if self._group_size is not None:
            fields["quantization_group_size"] = self._group_size
        return fields

    def finish(self, folder: Path) -> None:
        """There are no further files."""


class PlainLayout:
    """That of the source: weights keep their dtype."""

    weights_name = "model"

    def keep(self, name: str) -> None:
        """Nothing is noted."""

    def round(
        self, stored: StoredTensor, dtype: torch.dtype
    ) -> tuple[RoundingError, dict[str, Tensor]]:
        rounded = stored.tensor.to(dtype)
        if not rounded.isfinite().all():
            name = str(dtype).removeprefix("torch.")
            raise ValueError(f"holds numbers that are not finite, or too large for {name}")
        tensor = rounded.clone(memory_format=torch.contiguous_format)
        return relative_error(rounded, stored.tensor), {stored.name: tensor}

    def config_fields(self) -> Mapping[str, Any]:
        return {}

    def finish(self, folder: Path) -> None:
        """There are no further files."""
