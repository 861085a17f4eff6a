"""A rank's part of an adapter, as the slots of its linear modules take it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glmserve.adapters import LoraConfig
from glmserve.errors import AdapterError
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import Part, local_config
from glmserve.models.adapter_slots import adapted_modules
from glmserve.models.cuts import cut_of, is_summed_bias
from glmserve.models.finite import all_finite
from glmserve.models.lora import MERGE, ModuleLora, WholeLora
from glmserve.models.parameters import is_held
from glmserve.ops.adapters.slots import LoraWeights


def refuse_magnitudes(lora: LoraConfig) -> None:
    """Check that an adapter can be computed beside a model.

    Raises:
        AdapterError: it is a DoRA.
    """
    if lora.magnitudes:
        raise AdapterError(f"{lora.folder}: use_dora: DoRA is not served beside a model{MERGE}")


class LocalLora:
    """Makes a rank's part of adapters.

    Args:
        model: the whole one.
        part: the rank's.
        biases: the rank's biases of the model, by canonical name.
        dtype: of activations.
    """

    def __init__(
        self, model: ModelConfig, part: Part, biases: Mapping[str, Tensor], dtype: torch.dtype
    ) -> None:
        self._model = model
        self._part = part
        self._own = local_config(model, part)
        self._shapes = adapted_modules(self._own)
        self._biases = biases
        self._dtype = dtype

    def weights(self, lora: LoraConfig, whole: WholeLora) -> dict[str, LoraWeights]:
        """What the rank's modules get, by canonical name. On the host.

        Raises:
            AdapterError: the adapter needs what only a merged model has, or its numbers are too
                large for the dtype.
        """
        refuse_magnitudes(lora)
        biases = self._changes_of_biases(lora, whole)
        found = {}
        for module in sorted({*whole.modules, *biases}):
            if not is_held(self._own, f"{module}.weight"):
                continue
            weights = self._cut(module, whole.modules.get(module), biases.get(module))
            if not all(w is None or all_finite(w) for w in weights):
                name = str(self._dtype).removeprefix("torch.")
                raise AdapterError(f"{lora.folder}: {module}: numbers are too large for {name}")
            found[module] = weights
        return found

    def _cut(self, module: str, lora: ModuleLora | None, bias: Tensor | None) -> LoraWeights:
        """The rank's part of a module.

        Args:
            lora: None: only the bias was trained.
            bias: float32, the rank's change of the model's own bias.
        """
        cut = cut_of(self._model, f"{module}.weight", self._part.shard)
        if lora is None:
            assert bias is not None
            rows, columns = self._shapes[module]
            a, b = torch.zeros(0, columns), torch.zeros(rows, 0)
            return LoraWeights(a.to(self._dtype), b.to(self._dtype), bias.to(self._dtype))
        a, b, own = lora.a, lora.b, lora.bias
        if cut is not None and cut.dim == 0:
            b, own = cut.of(b), None if own is None else cut.of(own)
        elif cut is not None:
            a = cut.of(a)
        if own is not None and self._part.shard.rank and is_summed_bias(f"{module}.bias"):
            own = None
        total = own if bias is None else bias if own is None else own + bias
        kept = [None if t is None else t.to(self._dtype).contiguous() for t in (a, b, total)]
        assert kept[0] is not None and kept[1] is not None
        return LoraWeights(kept[0], kept[1], kept[2])

    def _changes_of_biases(self, lora: LoraConfig, whole: WholeLora) -> dict[str, Tensor]:
        """Trained biases less the model's own, of the rank: float32 by module.

        Raises:
            AdapterError: biases of norms were trained.
        """
        found = {}
        for name, trained in whole.biases.items():
            if not is_held(self._own, name):
                continue
            cut = cut_of(self._model, name, self._part.shard)
            own = trained if cut is None else cut.of(trained)
            if self._part.shard.rank and is_summed_bias(name):
                own = torch.zeros_like(own)
            base = self._biases[name].float().cpu()
            change = torch.where(own.isnan(), 0.0, own - base)
            module = name.removesuffix(".bias")
            if not module.endswith("norm"):
                found[module] = change
            elif not torch.equal(own.to(self._dtype).float(), base):
                raise AdapterError(f"{lora.folder}: {name}: biases of norms were trained{MERGE}")
        return found
