"""One step on the device, as a model reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple

from torch import Tensor

from glmserve.ops.adapters.slots import RowPlan
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.base import Ops
from glmserve.ops.batch import Batch


class StepAdapters(NamedTuple):
    """Which rows have which adapters."""

    tokens: RowPlan
    """Of all T rows."""
    outputs: RowPlan
    """Of the output rows."""


@dataclass(frozen=True, slots=True)
class Inputs(Generic[Plan]):
    """T tokens of a step, O output rows; contents as in Batch."""

    input_ids: Tensor
    """int64 [T]"""
    positions: Tensor
    """int64 [T], or rotary_positions"""
    output_rows: Tensor | None
    """int64 [O]. None: every row, in order."""
    attention: Plan
    """The attention backend's plan of the step."""
    adapters: StepAdapters | None = None
    """None: no row has an adapter."""


def upload(batch: Batch, ops: Ops[Cache, Plan], cache: Cache) -> Inputs[Plan]:
    """Copy a step to the device of `ops`, and plan its attention and its adapters.

    Args:
        cache: the KV cache of any layer.
    """
    attention = ops.attention
    send = attention.uploads.send
    positions = batch.positions if batch.rotary_positions is None else batch.rotary_positions
    return Inputs(
        input_ids=send(batch.input_ids),
        positions=send(positions),
        output_rows=None if _is_every_row(batch) else send(batch.output_rows),
        attention=attention.plan(batch, cache),
        adapters=_plan_adapters(batch, ops),
    )


def _is_every_row(batch: Batch) -> bool:
    """Whether all rows are output rows, in order, as in most steps of decodes."""
    count = len(batch.output_rows)
    return count == len(batch.input_ids) and batch.output_rows.tolist() == list(range(count))


def _plan_adapters(batch: Batch, ops: Ops[Cache, Plan]) -> StepAdapters | None:
    slots = batch.adapter_slots
    if slots is None:
        return None
    return StepAdapters(ops.plan_adapters(slots), ops.plan_adapters(slots[batch.output_rows]))
