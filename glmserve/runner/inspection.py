"""Reports every named tensor of a step; `glmserve golden compare` finds the first wrong one.

A runner that can do this has the method of InspectableRunner. The names are those of
`tensor_names.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import Runner, StepInput
from glmserve.models.glm import Glm
from glmserve.ops.base import AnyOps
from glmserve.ops.inputs import upload
from glmserve.ops.linear.packed import PackedWeight
from glmserve.runner.batch import build_batch

Observer = Callable[[str, Tensor], None]
"""Gets the name of a tensor, and the tensor in float32 on the host: a row for each token of the
step."""


@runtime_checkable
class InspectableRunner(Runner, Protocol):
    """A runner that can report what it computes."""

    def inspect(self, step: StepInput, observe: Observer) -> None:
        """Execute a step of one sequence without sampling, and report its tensors.

        K and V are written to the cache as by `execute`. A tensor that the device never has in
        memory is left out.
        """
        ...


def inspect_model(
    model: Any,
    caches: Sequence[Any],
    step_ops: AnyOps,
    step: StepInput,
    block_size: int,
    observe: Observer,
) -> None:
    """`inspect` for the runners of our own models.

    Args:
        caches: the KV cache of each layer.
        step_ops: plans the step.

    Raises:
        TypeError: the model is not of `models/glm.py`.
    """
    if not isinstance(model, Glm):
        raise TypeError(f"{type(model).__name__} cannot be inspected")
    batch = build_batch(step, block_size)
    batch = dataclasses.replace(batch, output_rows=np.arange(len(batch.input_ids)))
    ops = model.ops
    model.ops = _ObservedOps(ops, model, observe)  # type: ignore[assignment]  # all that it calls
    try:
        step_ops.attention.uploads.next_step()
        hidden = model.forward(upload(batch, step_ops, caches[0]), caches)
        assert hidden is not None, "a model in one process"
        observe("logits", _report(model.logits(hidden)))
    finally:
        model.ops = ops


class _ObservedOps:
    """Passes calls on to an Ops, and reports results that have a name.

    Weights tell which module a call is for. Results are copied at once, because later operations
    overwrite them.
    """

    few_rows = None  # they have no results with a name

    def __init__(self, ops: AnyOps, model: Glm[Any, Any], observe: Observer) -> None:
        self._ops = ops
        self._observe = observe
        self._names = _names(model)
        self._layer = 0
        """Of the next attention."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def embedding(self, token_ids: Tensor, weight: Tensor) -> Tensor:
        return self._reported("embedding", self._ops.embedding(token_ids, weight))

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        name = self._names.get(id(weight))
        return self._reported(name, self._ops.linear(x, weight, bias))

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        self._report_stream(x, weight)
        return self._reported(self._names.get(id(weight)), self._ops.rms_norm(x, weight, eps))

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed = self._ops.add_rms_norm(x, residual, weight, eps)
        self._report_stream(residual, weight)
        return self._reported(self._names.get(id(weight)), normed)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        self._report_stream(x, weight)
        normed = self._ops.layer_norm(x, weight, bias, eps)
        return self._reported(self._names.get(id(weight)), normed)

    def self_attention(self, qkv: Tensor, rope_rows: Tensor, cache: Any, plan: Any) -> Tensor:
        attended = self._ops.self_attention(qkv, rope_rows, cache, plan)
        self._observe(f"layers.{self._layer}.attention", _report(attended.flatten(1)))
        self._layer += 1
        return attended

    def silu_and_mul(self, x: Tensor) -> Tensor:
        return self._activated(self._ops.silu_and_mul(x))

    def gelu(self, x: Tensor) -> Tensor:
        return self._activated(self._ops.gelu(x))

    def _activated(self, x: Tensor) -> Tensor:
        return self._reported(f"layers.{self._layer - 1}.activation", x)

    def _report_stream(self, stream: Tensor, weight: Tensor) -> None:
        """Report the residual stream that a norm reads."""
        module, _, kind = self._names.get(id(weight), "").rpartition(".")
        name = {"input_norm": "input", "post_norm": "middle", "final_norm": "stream"}.get(kind)
        if name is not None:
            self._observe(f"{module}.{name}" if module else name, _report(stream))

    def _reported(self, name: str | None, result: Tensor) -> Tensor:
        if name is not None:
            self._observe(name, _report(result))
        return result


def _names(model: Glm[Any, Any]) -> dict[int, str]:
    """The name of each module's result, by the identity of its weight."""
    found = {}
    for index, layer in enumerate(model.layers):
        for field in dataclasses.fields(layer):
            module = getattr(layer, field.name)
            if module is not None:
                found[id(module.weight)] = f"layers.{index}.{field.name}"
    if model.final_norm is not None:
        found[id(model.final_norm.weight)] = "final_norm"
    return found


def _report(tensor: Tensor) -> Tensor:
    """A copy in float32 on the host."""
    return tensor.detach().to("cpu", torch.float32, copy=True)
