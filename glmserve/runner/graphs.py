"""Decode steps as graphs, which are recorded once for a few batch sizes and replayed for each step.

A replay costs the host one transfer and one launch instead of some three hundred launches. Steps
with adapters have graphs of their own, so that the others do not pay for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress
from glmserve.models.registry import Model
from glmserve.ops.adapters.slots import RowPlan
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.inputs import Inputs, StepAdapters
from glmserve.ops.packed_arrays import ArraySpec, StaticArrays
from glmserve.runner.accelerator import Accelerator, Graph

_NONE = np.empty(0, dtype=np.int64)
_NO_TOKENS = Batch(
    input_ids=_NONE,
    positions=_NONE,
    slot_mapping=_NONE,
    last_visible=_NONE,
    query_start=np.zeros(1, dtype=np.int64),
    context_lens=_NONE,
    block_tables=_NONE.reshape(0, 0),
    block_size=1,
    num_decodes=0,
    output_rows=_NONE,
)
"""A batch of padding only, with which graphs are recorded."""


StaticPlan = TypeVar("StaticPlan", covariant=True)


@runtime_checkable
class StaticAttention(Protocol[StaticPlan]):
    """An attention backend that can plan decode steps of a fixed shape."""

    def static_specs(self, batch_size: int, max_context: int) -> dict[str, ArraySpec]:
        """Shapes of the arrays of a step with `batch_size` rows, padding included.

        Args:
            max_context: tokens of the longest request.
        """
        ...

    def fill_static(self, batch: Batch, host: Mapping[str, NDArray[Any]]) -> None:
        """Write a step of decodes to `host`. Rows behind the step's become padding.

        Args:
            host: arrays of `static_specs`, on the host.
        """
        ...

    def static_plan(self, arrays: Mapping[str, Tensor], positions: Tensor) -> StaticPlan:
        """The plan that reads what `fill_static` wrote, after the upload.

        Args:
            arrays: arrays of `static_specs`, on the device.
            positions: int64 [batch_size]
        """
        ...


@runtime_checkable
class StaticAdapters(Protocol):
    """Ops whose slots of adapters, and the plans of their rows, have fixed addresses."""

    def static_adapter_specs(self, rows: int) -> dict[str, ArraySpec]:
        """Shapes of the arrays of a plan for up to `rows` rows."""
        ...

    def fill_static_adapters(self, slots: Int64Array, host: Mapping[str, NDArray[Any]]) -> None:
        """Write the plan of rows with these slots.

        Args:
            host: arrays of `static_adapter_specs`, on the host.
        """
        ...

    def static_adapter_plan(self, arrays: Mapping[str, Tensor]) -> RowPlan:
        """The plan that reads what `fill_static_adapters` wrote, after the upload.

        Args:
            arrays: arrays of `static_adapter_specs`, on the device.
        """
        ...


def graph_sizes(max_batch_size: int) -> list[int]:
    """Batch sizes to record: 1, 2, 4, then multiples of 8, beyond 64 of 32.

    A step is padded to the next size. Padding costs little: decoding takes mostly the time to read
    the weights, which is the same for any number of rows.
    """
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, max_batch_size, 32)]
    return [*(size for size in sizes if size < max_batch_size), max_batch_size]


class _RecordedStep(NamedTuple, Generic[Plan]):
    """A graph and the tensors that it reads and writes."""

    arrays: StaticArrays
    plan: Plan
    graph: Graph


_ROWS = ("tokens", "outputs")
"""The two orders in which a step's rows have adapters: see StepAdapters."""


class DecodeGraphs(Generic[Cache, Plan]):
    """One graph per batch size, from the step's tokens to the logits; with adapters, two.

    Args:
        attention: plans static steps.
        adapters: plans the adapters of static steps; None: the model has none.
        max_context: tokens of the longest request.
        last_tokens: int64, the tokens that the step before chose; see `resolve_on_device`.
    """

    def __init__(
        self,
        model: Model[Cache, Plan],
        caches: Sequence[Cache],
        attention: StaticAttention[Plan],
        adapters: StaticAdapters | None,
        accelerator: Accelerator,
        max_context: int,
        last_tokens: Tensor,
    ) -> None:
        self._model = model
        self._caches = caches
        self._attention = attention
        self._adapters = adapters
        self._accelerator = accelerator
        self._max_context = max_context
        self._last_tokens = last_tokens
        self._steps: dict[tuple[int, bool], _RecordedStep[Plan]] = {}
        self._sizes: list[int] = []

    def record(self, sizes: Sequence[int], progress: ReportProgress) -> None:
        """Record a graph for each size, the largest first so that the others fit in its memory."""
        kinds = [False] if self._adapters is None else [False, True]
        steps = [(size, adapted) for size in sorted(sizes, reverse=True) for adapted in kinds]
        for done, (size, adapted) in enumerate(steps):
            progress(LoadProgress("graphs", done, len(steps)))
            self._steps[size, adapted] = self._record(size, adapted=adapted)
        self._sizes = sorted(sizes)
        progress(LoadProgress("graphs", len(steps), len(steps)))

    def _record(self, size: int, *, adapted: bool) -> _RecordedStep[Plan]:
        specs = self._specs(size) | (self._adapter_specs(size) if adapted else {})
        arrays = StaticArrays(specs, self._accelerator.device)
        self._attention.fill_static(_NO_TOKENS, arrays.host)
        if adapted:
            self._fill_adapters(_NO_TOKENS, _NONE, arrays.host)
        arrays.upload()
        plan = self._attention.static_plan(arrays.device, arrays.device["positions"])
        adapters = self._adapter_plans(arrays.device) if adapted else None
        graph = self._accelerator.capture(self._work(arrays.device, plan, adapters))
        return _RecordedStep(arrays, plan, graph)

    def fits(self, batch: Batch, num_sampled: int) -> bool:
        """Whether all rows are decodes that are sampled, and there is a graph of that size or
        larger."""
        rows = len(batch.input_ids)
        return (
            batch.num_decodes == rows == num_sampled == len(batch.output_rows)
            and bool(self._sizes)
            and rows <= self._sizes[-1]
        )

    def run(self, batch: Batch) -> Tensor:
        """Queue a step that `fits`.

        Args:
            batch: placeholders are references to the last tokens, see `resolve_on_device`.

        Returns:
            Logits float32 [O, V], valid until the next step of this size.
        """
        rows, slots = len(batch.input_ids), batch.adapter_slots
        size = self._sizes[bisect_left(self._sizes, rows)]
        arrays, _, graph = self._steps[size, slots is not None]
        for name in ("input_ids", "positions", "output_rows"):
            arrays.host[name][:rows] = getattr(batch, name)
            arrays.host[name][rows:] = 0
        self._attention.fill_static(batch, arrays.host)
        if slots is not None:
            self._fill_adapters(batch, slots, arrays.host)
        arrays.upload()
        graph.replay()
        return graph.output[:rows]

    def _specs(self, size: int) -> dict[str, ArraySpec]:
        own = dict.fromkeys(("input_ids", "positions", "output_rows"), ArraySpec((size,), "int64"))
        return {**own, **self._attention.static_specs(size, self._max_context)}

    def _adapter_specs(self, size: int) -> dict[str, ArraySpec]:
        assert self._adapters is not None
        specs = self._adapters.static_adapter_specs(size)
        return {f"{rows}.{name}": spec for rows in _ROWS for name, spec in specs.items()}

    def _fill_adapters(
        self, batch: Batch, slots: Int64Array, host: Mapping[str, NDArray[Any]]
    ) -> None:
        assert self._adapters is not None
        for rows, of_rows in zip(_ROWS, (slots, slots[batch.output_rows]), strict=True):
            self._adapters.fill_static_adapters(of_rows, _of(rows, host))

    def _adapter_plans(self, arrays: Mapping[str, Tensor]) -> StepAdapters:
        assert self._adapters is not None
        return StepAdapters(
            *(self._adapters.static_adapter_plan(_of(rows, arrays)) for rows in _ROWS)
        )

    def _work(
        self, arrays: Mapping[str, Tensor], plan: Plan, adapters: StepAdapters | None
    ) -> Callable[[], Tensor]:
        def work() -> Tensor:
            inputs = Inputs(
                input_ids=resolve_on_device(arrays["input_ids"], self._last_tokens),
                positions=arrays["positions"],
                output_rows=arrays["output_rows"],
                attention=plan,
                adapters=adapters,
            )
            hidden = self._model.forward(inputs, self._caches)
            assert hidden is not None, "graphs hold a whole model"
            return self._model.logits(hidden)

        return work


Array = TypeVar("Array")


def _of(rows: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of one of _ROWS, by their names in its plan."""
    start = f"{rows}."
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def resolve_on_device(input_ids: Tensor, last_tokens: Tensor) -> Tensor:
    """`input_ids` with -1 - i replaced by last_tokens[i], or by 0 if that is no token."""
    rows = (-1 - input_ids).clamp_(min=0)
    return torch.where(input_ids < 0, last_tokens[rows], input_ids).clamp_(min=0)
