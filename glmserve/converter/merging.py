"""Merges a LoRA adapter into the weights of its model, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from glmserve.adapters import LoraConfig, read_adapter_config
from glmserve.errors import AdapterError, CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.models.lora import ModuleLora, read_lora_weights
from glmserve.models.names import Placement
from glmserve.models.parameters import parameter_shapes
from glmserve.models.weights import StoredTensor


class Merger:
    """Changes the stored tensors of a model as its adapter says.

    Args:
        folder: of the adapter.
        model: the whole one, not quantised.

    Raises:
        CheckpointError: the adapter cannot be read, does not fit the model, or cannot be merged.
    """

    def __init__(self, folder: Path, model: ModelConfig) -> None:
        self._folder = folder
        self._shapes = parameter_shapes(model)
        try:
            lora = read_adapter_config(folder)
            if not isinstance(lora, LoraConfig):
                raise AdapterError(f"{folder}: a prefix is no change of weights that can be merged")
            self._lora = read_lora_weights(lora, model)
        except AdapterError as error:
            raise CheckpointError(error.message) from None
        for module, changes in self._lora.modules.items():
            bias = f"{module}.bias"
            if changes.bias is not None and changes.bias.any() and bias not in self._shapes:
                raise CheckpointError(
                    f"{folder}: lora_bias: the model has no {bias} to merge it into"
                )

    def merged(self, stored: StoredTensor) -> StoredTensor:
        """The tensor with the adapter's change, in float32; or as it is, if there is none."""
        if stored.placement is None:
            return stored
        module, _, kind = stored.placement.parameter.rpartition(".")
        changes = self._lora.modules.get(module)
        if kind == "weight" and changes is not None:
            return stored._replace(tensor=self._weight(stored, stored.placement, changes))
        if kind == "bias":
            return self._bias(stored, stored.placement, changes)
        return stored

    def _weight(self, stored: StoredTensor, placement: Placement, changes: ModuleLora) -> Tensor:
        rows = self._canonical_rows(placement)
        merged = placement.read(stored.tensor).float() + changes.b[rows] @ changes.a
        if changes.magnitudes is not None:
            wanted = changes.magnitudes[rows]
            factors = wanted / merged.norm(dim=1)
            merged *= torch.where(wanted.isnan(), 1.0, factors)[:, None]
        return merged

    def _bias(
        self, stored: StoredTensor, placement: Placement, changes: ModuleLora | None
    ) -> StoredTensor:
        trained = self._lora.biases.get(placement.parameter)
        added = None if changes is None else changes.bias
        if trained is None and added is None:
            return stored
        rows = self._canonical_rows(placement)
        bias = placement.read(stored.tensor).float()
        if trained is not None:
            bias = torch.where(trained[rows].isnan(), bias, trained[rows])
        return stored._replace(tensor=bias if added is None else bias + added[rows])

    def _canonical_rows(self, placement: Placement) -> Tensor:
        """int64: the row of the parameter that each row of the stored tensor is."""
        count = placement.shape[0]
        numbers = replace(placement, shape=(count, 1), dtype=None, accepts=None)
        stored_rows = torch.full((self._shapes[placement.parameter][0], 1), -1.0)
        numbers.copy(torch.arange(count, dtype=torch.float32)[:, None], stored_rows)
        order = stored_rows[:, 0].long()
        canonical = torch.empty(count, dtype=torch.int64)
        canonical[order[order >= 0]] = (order >= 0).nonzero()[:, 0]
        return canonical
