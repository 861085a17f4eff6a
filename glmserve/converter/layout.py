"""The layout of a converted checkpoint: names of files, tensors and fields of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from glmserve.config import ConversionConfig
from glmserve.converter.rounding import RoundedWeight, round_weight
from glmserve.models.weights import StoredTensor


class Layout(Protocol):
    """Rounds tensors one by one, and then writes what else the checkpoint needs."""

    weights_name: str
    """Of the files of weights, without their suffix."""

    def keep(self, name: str) -> None:
        """Note that a tensor is stored as it was."""
        ...

    def round(self, stored: StoredTensor) -> tuple[RoundedWeight, dict[str, Tensor]]:
        """Round a layer's linear weight.

        Returns:
            The codes, and the tensors to store, by name.

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

    def __init__(self, conversion: ConversionConfig) -> None:
        self._conversion = conversion

    def keep(self, name: str) -> None:
        """Nothing is noted."""

    def round(self, stored: StoredTensor) -> tuple[RoundedWeight, dict[str, Tensor]]:
        rounded = round_weight(stored.tensor, self._conversion.bits, self._conversion.group_size)
        return rounded, {stored.name: rounded.codes, f"{stored.name}_scale": rounded.scales}

    def config_fields(self) -> Mapping[str, Any]:
        fields: dict[str, int] = {"quantization_bit": self._conversion.bits}
        if self._conversion.group_size is not None:
            fields["quantization_group_size"] = self._conversion.group_size
        return fields

    def finish(self, folder: Path) -> None:
        """There are no further files."""
