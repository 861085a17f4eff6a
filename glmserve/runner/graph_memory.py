"""The memory that graphs share: they never overlap, so each of these is there once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve.ops.packed_arrays import ArraySpec, packed_bytes
from glmserve.ops.step_shape import StepShape
from glmserve.runner.static_steps import StaticAdapters, StaticAttention

ROWS = ("tokens", "outputs")
"""The two orders in which a step's rows have adapters: see StepAdapters."""


class GraphMemory(NamedTuple):
    """What the graphs of a runner read and write, beside weights, KV cache and logits."""

    inputs: Tensor
    """uint8: the step's arrays."""
    scratch: Tensor
    """float32, of attention."""


class GraphSpecs:
    """Shapes of the input arrays of graphs.

    Args:
        planner: plans the adapters of static steps; None: the model has none.
        max_adapters: how many it has at most.
    """

    def __init__(
        self, attention: StaticAttention[Any], planner: StaticAdapters | None, max_adapters: int
    ) -> None:
        self._attention = attention
        self._planner = planner
        self._max_adapters = max_adapters

    def arrays(self, shape: StepShape, *, adapted: bool) -> dict[str, ArraySpec]:
        """The arrays of a graph.

        Args:
            adapted: whether its rows may have adapters.
        """
        tokens = ArraySpec((shape.tokens,), "int64")
        outputs = ArraySpec((shape.outputs,), "int64")
        specs = {"input_ids": tokens, "positions": tokens, "output_rows": outputs}
        specs |= self._attention.static_specs(shape)
        if adapted:
            assert self._planner is not None
            for rows, count in zip(ROWS, (shape.tokens, shape.outputs), strict=True):
                plan = self._planner.static_adapter_specs(count, self._max_adapters)
                specs |= {f"{rows}.{name}": spec for name, spec in plan.items()}
        return specs

    def num_bytes(self, shapes: Sequence[StepShape]) -> int:
        """Bytes of the memory of the graphs of all these shapes."""
        inputs, scratch = self._sizes(shapes)
        return inputs + scratch * torch.float32.itemsize

    def allocate(self, shapes: Sequence[StepShape], device: torch.device) -> GraphMemory:
        """The memory of the graphs of all these shapes."""
        inputs, scratch = self._sizes(shapes)
        return GraphMemory(
            torch.zeros(inputs, dtype=torch.uint8, device=device),
            torch.zeros(scratch, device=device),
        )

    def _sizes(self, shapes: Sequence[StepShape]) -> tuple[int, int]:
        """How many numbers each tensor of GraphMemory has."""
        adapted = self._planner is not None
        inputs = max(packed_bytes(self.arrays(shape, adapted=adapted)) for shape in shapes)
        return inputs, max(self._attention.scratch_size(shape) for shape in shapes)
