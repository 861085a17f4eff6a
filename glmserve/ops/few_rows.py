"""Operations that compute several parts of a layer at once, for steps of few rows.

Such a step takes as long as reading the weights. Whatever a layer computes between two products
belongs to one of them, so that a layer is five operations: `attention_input`, attention, `add`,
`gated`, `add`. T tokens, H hidden size, F ffn size, Hq query heads, D head dim.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from glmserve.ops.linear.packed import PackedWeight

CacheT = TypeVar("CacheT", contravariant=True)
PlanT = TypeVar("PlanT", contravariant=True)


class SquaredRows(NamedTuple):
    """The residual stream, and what the next norm needs to know of it."""

    hidden: Tensor
    """[T, H]"""
    squares: Tensor
    """float32 [T, S]: sums of squares of columns; together, of all columns."""

    def rows(self, rows: Tensor | None) -> SquaredRows:
        """Only these rows; None: all."""
        return self if rows is None else SquaredRows(self.hidden[rows], self.squares[rows])


class LinearParameters(Protocol):
    """A linear module."""

    @property
    def weight(self) -> PackedWeight: ...

    @property
    def bias(self) -> Tensor | None: ...


class FewRows(Protocol[CacheT, PlanT]):
    """The operations."""

    most_rows: int
    """Of a step."""

    def supports(self, weight: PackedWeight) -> bool:
        """Whether the operations read a linear weight that `pack_linear` has packed."""
        ...

    def scratch_bytes(self, rows: int, hidden_size: int, head_dim: int) -> int:
        """Bytes that a step of so many rows takes for the operations themselves, at most."""
        ...

    def begin(self, hidden: Tensor) -> SquaredRows:
        """The stream [T, H], before the first layer."""
        ...

    def attention_input(
        self,
        stream: SquaredRows,
        norm: Tensor,
        eps: float,
        qkv: LinearParameters,
        rope_rows: Tensor,
        cache: CacheT,
        plan: PlanT,
    ) -> Tensor:
        """What attention reads: the rotated queries [T, Hq, D] of the normed stream. The rotated
        keys and the values are written to the cache.

        Args:
            norm: [H], its weight.
            rope_rows, cache, plan: as in Ops.self_attention.
        """
        ...

    def gated(
        self, stream: SquaredRows, norm: Tensor, eps: float, gate_up: LinearParameters
    ) -> Tensor:
        """The activation of the normed stream: [T, F].

        Args:
            norm: [H], its weight.
        """
        ...

    def add(self, x: Tensor, linear: LinearParameters, hidden: Tensor) -> SquaredRows:
        """`hidden` [T, H] with the product of x [T, in] added, in place."""
        ...
