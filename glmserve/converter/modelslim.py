"""ModelSlim's layout: the kinds W8A8, W8A8_DYNAMIC and W8A16, and the description of all tensors.

`model_config/modelslim.py` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glmserve.config import ConversionConfig, ReportProgress
from glmserve.converter.calibration import Range, input_ranges
from glmserve.converter.layout import RoundingError
from glmserve.converter.rounding import RoundedWeight, round_weight
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.model_config.modelslim import Kind
from glmserve.models.weights import StoredTensor, stored_tensors

_STEPS = 255
"""Between the smallest and the largest code of an input."""
_SMALLEST_CODE, _LARGEST_CODE = -128, 127
_SMALLEST_SCALE = 1e-6
"""Within float16; of an input that is always 0."""


def modelslim_layout(
    conversion: ConversionConfig, model: ModelConfig, source: Path, progress: ReportProgress
) -> ModelSlimLayout:
    """Prepare the conversion: with a calibration, the text is computed.

    Raises:
        CheckpointError: the source is broken, or not a model that the layout is for.
    """
    if model.model_type != "chatglm":
        raise CheckpointError(
            f"{model.path}: --layout modelslim is for ChatGLM2, ChatGLM3 and GLM-4 in THUDM's "
            "format"
        )
    dtype = torch.bfloat16 if model.stored_dtype == "bfloat16" else torch.float16
    if not conversion.rounds_activations:
        return ModelSlimLayout("W8A16", dtype, {}, {})
    if conversion.calibration is None:
        return ModelSlimLayout("W8A8_DYNAMIC", dtype, {}, {})
    with os.fdopen(conversion.calibration, "rb") as file:
        token_ids = np.frombuffer(file.read(), dtype=np.int32).tolist()
    ranges = input_ranges(model, source, token_ids, progress)
    biases = {
        stored.name: stored.tensor.clone()
        for stored in stored_tensors(model, source)
        if stored.name.endswith(".bias")
    }
    return ModelSlimLayout("W8A8", dtype, biases, ranges)


class ModelSlimLayout:
    """A Layout.

    Args:
        kind: of the linear modules of all layers.
        dtype: of the checkpoint's activations, float16 or bfloat16. The vendor's products want
            scales in another form for each of them.
        biases: by stored name.
        ranges: of the modules' inputs, for the kind W8A8; by canonical name of the module.
    """

    def __init__(
        self,
        kind: Kind,
        dtype: torch.dtype,
        biases: Mapping[str, Tensor],
        ranges: Mapping[str, Range],
    ) -> None:
        self._kind = kind
        self._dtype = dtype
        self._biases = biases
        self._ranges = ranges
        self._kinds: dict[str, Kind] = {}  # by stored name of a tensor
        self.weights_name = f"quant_model_weight_{kind.lower()}"

    def keep(self, name: str) -> None:
        self._kinds[name] = "FLOAT"

    def round(
        self, stored: StoredTensor, dtype: torch.dtype
    ) -> tuple[RoundingError, dict[str, Tensor]]:
        assert stored.placement is not None
        module = stored.name.removesuffix(".weight")
        rounded = round_weight(stored.tensor, 8, None)
        parts = {"weight": rounded.codes}
        if self._kind == "W8A8":
            inputs = self._ranges[stored.placement.parameter.removesuffix(".weight")]
            bias = self._biases.get(f"{module}.bias")
            parts |= self._static_parts(rounded, bias, inputs)
        else:
            scales = rounded.scales.float()[:, None]
            parts |= {"weight_scale": scales, "weight_offset": torch.zeros_like(scales)}
        named = {f"{module}.{part}": tensor for part, tensor in parts.items()}
        self._kinds |= dict.fromkeys(named, self._kind)
        return rounded.relative_error, named

    def _static_parts(
        self, rounded: RoundedWeight, bias: Tensor | None, inputs: Range
    ) -> dict[str, Tensor]:
        """What rounds the input and scales the sums of codes, see ops/linear/static.py."""
        step = max((inputs.high - inputs.low) / _STEPS, _SMALLEST_SCALE)
        input_scale = torch.tensor([step]).to(self._dtype)
        scale = input_scale.item()
        lowest = round(_SMALLEST_CODE - inputs.low / scale)
        offset = min(max(lowest, _SMALLEST_CODE), _LARGEST_CODE)
        scales = rounded.scales.float()
        deq_scale = scale * torch.where(scales == 0, 1.0, scales)
        exact = torch.zeros_like(scales) if bias is None else bias
        sums = rounded.codes.sum(1, dtype=torch.float64)
        quant_bias = (exact.double() / deq_scale - offset * sums).round_()
        if quant_bias.abs().max() >= 2**31:
            raise ValueError("has a bias that is too large for the scale of its inputs")
        is_half = self._dtype == torch.float16
        return {
            "input_scale": input_scale,
            "input_offset": torch.tensor([float(offset)]).to(self._dtype),
            "quant_bias": quant_bias.to(torch.int32),
            "deq_scale": deq_scale.view(torch.int32).long() if is_half else deq_scale,
        }

    def config_fields(self) -> Mapping[str, Any]:
        return {"quantize": self._kind.lower()}

    def finish(self, folder: Path) -> None:
        path = folder / f"quant_model_description_{self._kind.lower()}.json"
        fields = {"model_quant_type": self._kind, **self._kinds}
        path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
