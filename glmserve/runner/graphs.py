"""Decode steps as graphs, which are recorded once for a few batch sizes and replayed for each step.

A replay costs the host one transfer and one launch instead of some three hundred launches.
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
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.batch import Batch
from glmserve.ops.inputs import Inputs
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


class DecodeGraphs(Generic[Cache, Plan]):
    """One graph per batch size, from the step's tokens to the logits.

    Args:
        attention: plans static steps.
        max_context: tokens of the longest request.
        last_tokens: int64, the tokens that the step before chose; see `resolve_on_device`.
    """

    def __init__(
        self,
        model: Model[Cache, Plan],
        caches: Sequence[Cache],
        attention: StaticAttention[Plan],
        accelerator: Accelerator,
        max_context: int,
        last_tokens: Tensor,
    ) -> None:
        self._model = model
        self._caches = caches
        self._attention = attention
        self._accelerator = accelerator
        self._max_context = max_context
        self._last_tokens = last_tokens
        self._steps: dict[int, _RecordedStep[Plan]] = {}
        self._sizes: list[int] = []

    def record(self, sizes: Sequence[int], progress: ReportProgress) -> None:
        """Record a graph for each size, the largest first so that the others fit in its memory."""
        for done, size in enumerate(sorted(sizes, reverse=True)):
            progress(LoadProgress("graphs", done, len(sizes)))
            arrays = StaticArrays(self._specs(size), self._accelerator.device)
            self._attention.fill_static(_NO_TOKENS, arrays.host)
            arrays.upload()
            plan = self._attention.static_plan(arrays.device, arrays.device["positions"])
            graph = self._accelerator.capture(self._work(arrays.device, plan))
            self._steps[size] = _RecordedStep(arrays, plan, graph)
        self._sizes = sorted(sizes)
        progress(LoadProgress("graphs", len(sizes), len(sizes)))

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
        rows = len(batch.input_ids)
        arrays, _, graph = self._steps[self._sizes[bisect_left(self._sizes, rows)]]
        for name in ("input_ids", "positions", "output_rows"):
            arrays.host[name][:rows] = getattr(batch, name)
            arrays.host[name][rows:] = 0
        self._attention.fill_static(batch, arrays.host)
        arrays.upload()
        graph.replay()
        return graph.output[:rows]

    def _specs(self, size: int) -> dict[str, ArraySpec]:
        own = dict.fromkeys(("input_ids", "positions", "output_rows"), ArraySpec((size,), "int64"))
        return {**own, **self._attention.static_specs(size, self._max_context)}

    def _work(self, arrays: Mapping[str, Tensor], plan: Plan) -> Callable[[], Tensor]:
        def work() -> Tensor:
            inputs = Inputs(
                input_ids=resolve_on_device(arrays["input_ids"], self._last_tokens),
                positions=arrays["positions"],
                output_rows=arrays["output_rows"],
                attention=plan,
            )
            hidden = self._model.forward(inputs, self._caches)
            assert hidden is not None, "graphs hold a whole model"
            return self._model.logits(hidden)

        return work


def resolve_on_device(input_ids: Tensor, last_tokens: Tensor) -> Tensor:
    """`input_ids` with -1 - i replaced by last_tokens[i], or by 0 if that is no token."""
    rows = (-1 - input_ids).clamp_(min=0)
    return torch.where(input_ids < 0, last_tokens[rows], input_ids).clamp_(min=0)
