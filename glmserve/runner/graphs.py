"""Steps as graphs, which are recorded once for a few shapes and replayed for each step.

A replay costs the host one transfer and one launch instead of some three hundred launches. Steps
of decodes alone have graphs of their own, because most steps are such and need no attention for
prompts. Steps with adapters have graphs of their own as well, so that the others do not pay for
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress
from glmserve.models.registry import Model
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.inputs import Inputs, StepAdapters
from glmserve.ops.packed_arrays import HostArrays, StaticArrays
from glmserve.ops.step_shape import StepShape
from glmserve.runner.accelerator import Accelerator, Graph
from glmserve.runner.graph_memory import ROWS, GraphSpecs
from glmserve.runner.graph_shapes import smallest_that_fits
from glmserve.runner.static_steps import StaticAdapters, StaticAttention

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


class _RecordedStep(NamedTuple, Generic[Plan]):
    """A graph and the tensors that it reads."""

    arrays: StaticArrays
    plan: Plan
    graph: Graph


class StepGraphs(Generic[Cache, Plan]):
    """One graph per shape, from the step's tokens to the logits; with adapters, two.

    Args:
        attention: plans static steps.
        adapters: plans the adapters of static steps; None: the model has none.
        max_adapters: how many it has at most.
        last_tokens: int64, the tokens that the step before chose; see `resolve_on_device`.
        logits: float32 [sequences of the largest step, V]; each replay overwrites them.
    """

    def __init__(
        self,
        model: Model[Cache, Plan],
        caches: Sequence[Cache],
        attention: StaticAttention[Plan],
        adapters: StaticAdapters | None,
        max_adapters: int,
        accelerator: Accelerator,
        last_tokens: Tensor,
        logits: Tensor,
    ) -> None:
        self._model = model
        self._caches = caches
        self._attention = attention
        self._adapters = adapters
        self._specs = GraphSpecs(attention, adapters, max_adapters)
        self._accelerator = accelerator
        self._last_tokens = last_tokens
        self._logits = logits
        self._steps: dict[tuple[StepShape, bool], _RecordedStep[Plan]] = {}
        self._decodes: list[StepShape] = []
        self._mixed: list[StepShape] = []

    def record(self, shapes: Sequence[StepShape], progress: ReportProgress) -> None:
        """Record a graph for each shape, in this order: see graph_shapes."""
        memory = self._specs.allocate(shapes, self._accelerator.device)
        kinds = [False] if self._adapters is None else [False, True]
        steps = [(shape, adapted) for shape in shapes for adapted in kinds]
        for done, (shape, adapted) in enumerate(steps):
            progress(LoadProgress("graphs", done, len(steps)))
            specs = self._specs.arrays(shape, adapted=adapted)
            arrays = StaticArrays(specs, self._attention.uploads, memory.inputs)
            self._steps[shape, adapted] = self._record(shape, arrays, memory.scratch, adapted)
        ascending = sorted(shapes, key=lambda shape: shape.tokens)
        self._decodes = [shape for shape in ascending if not shape.prompts]
        self._mixed = [shape for shape in ascending if shape.prompts]
        progress(LoadProgress("graphs", len(steps), len(steps)))

    def _record(
        self, shape: StepShape, arrays: StaticArrays, scratch: Tensor, adapted: bool
    ) -> _RecordedStep[Plan]:
        self._fill(_NO_TOKENS, _NONE if adapted else None, arrays.host)
        self._attention.uploads.next_step()
        arrays.upload()
        plan = self._attention.static_plan(arrays.device, arrays.device["positions"], scratch)
        adapters = self._adapter_plans(arrays.device) if adapted else None
        logits = self._logits[: shape.outputs]
        graph = self._accelerator.capture(self._work(arrays.device, plan, adapters, logits))
        return _RecordedStep(arrays, plan, graph)

    def shape_for(self, batch: Batch, num_sampled: int) -> StepShape | None:
        """The shape of the graph for a step; None: there is none.

        Graphs hold neither prompts whose hidden states are read whole, nor steps beyond the
        largest recorded one.
        """
        if len(batch.output_rows) != num_sampled:
            return None
        tokens = len(batch.input_ids)
        is_decodes = batch.num_decodes == tokens == num_sampled
        return smallest_that_fits(self._decodes if is_decodes else self._mixed, tokens)

    def run(self, shape: StepShape, batch: Batch) -> Tensor:
        """Queue a step.

        Args:
            shape: from `shape_for`.
            batch: placeholders are references to the last tokens, see `resolve_on_device`.

        Returns:
            Logits float32 [O, V], valid until the next step.
        """
        slots = batch.adapter_slots
        arrays, _, graph = self._steps[shape, slots is not None]
        self._fill(batch, slots, arrays.host)
        arrays.upload()
        graph.replay()
        return self._logits[: len(batch.output_rows)]

    def _fill(self, batch: Batch, slots: Int64Array | None, host: HostArrays) -> None:
        for name in ("input_ids", "positions", "output_rows"):
            values: Int64Array = getattr(batch, name)
            host[name][: len(values)] = values
            host[name][len(values) :] = 0
        self._attention.fill_static(batch, host)
        if slots is not None:
            assert self._adapters is not None
            for rows, of_rows in zip(ROWS, (slots, slots[batch.output_rows]), strict=True):
                self._adapters.fill_static_adapters(of_rows, _of(rows, host))

    def _adapter_plans(self, arrays: Mapping[str, Tensor]) -> StepAdapters:
        assert self._adapters is not None
        return StepAdapters(
            *(self._adapters.static_adapter_plan(_of(rows, arrays)) for rows in ROWS)
        )

    def _work(
        self,
        arrays: Mapping[str, Tensor],
        plan: Plan,
        adapters: StepAdapters | None,
        logits: Tensor,
    ) -> Callable[[], None]:
        def work() -> None:
            inputs = Inputs(
                input_ids=resolve_on_device(arrays["input_ids"], self._last_tokens),
                positions=arrays["positions"],
                output_rows=arrays["output_rows"],
                attention=plan,
                adapters=adapters,
            )
            hidden = self._model.forward(inputs, self._caches)
            assert hidden is not None, "graphs hold a whole model"
            self._model.logits(hidden, out=logits)

        return work


Array = TypeVar("Array")


def _of(rows: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of one of ROWS, by their names in its plan."""
    start = f"{rows}."
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def resolve_on_device(input_ids: Tensor, last_tokens: Tensor) -> Tensor:
    """`input_ids` with -1 - i replaced by last_tokens[i], or by 0 if that is no token."""
    rows = (-1 - input_ids).clamp_(min=0)
    return torch.where(input_ids < 0, last_tokens[rows], input_ids).clamp_(min=0)
