"""FewRows by Triton: weights of numbers or of codes, any paged cache."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from glmserve.ops.arrivals import Arrivals
from glmserve.ops.attention.paged_cache import PagedCache, PagedStepPlan
from glmserve.ops.few_rows import LinearParameters, SquaredRows
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.triton import PackedCodes
from glmserve_kernels.few_rows.plan import (
    ROWS,
    Split,
    is_programmatic,
    most_partials,
    most_rows,
    split_outputs,
)
from glmserve_kernels.matmul_add.kernel import count_parts, matmul_add
from glmserve_kernels.norm_matmul_rope.kernel import head_tile, norm_matmul_rope, split_heads
from glmserve_kernels.norm_matmul_silu.kernel import norm_matmul_silu
from glmserve_kernels.tiles import load_tiles


class TritonFewRows:
    """See FewRows.

    Args:
        chip: selects the tile sizes, and up to how many rows they are used.
    """

    def __init__(self, chip: str) -> None:
        self.most_rows = most_rows(chip)
        self._programmatic = is_programmatic(chip)
        self._add_tiles = load_tiles("matmul_add", chip)
        self._silu_tiles = load_tiles("norm_matmul_silu", chip)
        self._rope_tiles = load_tiles("norm_matmul_rope", chip)
        self._arrivals = Arrivals()

    def supports(self, weight: PackedWeight) -> bool:
        return isinstance(weight, Tensor | PackedCodes)

    def scratch_bytes(self, rows: int, hidden_size: int, head_dim: int) -> int:
        partials = max(
            most_partials(rows, self._add_tiles),
            most_partials(rows, self._silu_tiles),
            most_partials(rows, self._rope_tiles, head_tile(head_dim)),
        )
        squared = 2 * ROWS * hidden_size
        squares = rows * count_parts(hidden_size)
        return (max(partials, squared) + squares) * torch.float32.itemsize

    def begin(self, hidden: Tensor) -> SquaredRows:
        # torch adds up in an order that depends on the number of rows, so it is always the same.
        padded = functional.pad(hidden.float(), (0, 0, 0, ROWS - len(hidden)))
        return SquaredRows(hidden, padded.square_().sum(1, keepdim=True)[: len(hidden)])

    def attention_input(
        self,
        stream: SquaredRows,
        norm: Tensor,
        eps: float,
        qkv: LinearParameters,
        rope_rows: Tensor,
        cache: PagedCache,
        plan: PagedStepPlan,
    ) -> Tensor:
        x, weight = stream.hidden, _unpacked(qkv.weight)
        _, kv_heads, _, dim = cache.keys.shape
        heads = len(weight.numbers) // dim - 2 * kv_heads
        queries = torch.empty((len(x), heads, dim), dtype=x.dtype, device=x.device)
        norm_matmul_rope(
            x=x,
            squares=stream.squares,
            norm=norm,
            eps=eps,
            weight=weight.numbers,
            scales=weight.scales,
            bias=qkv.bias,
            cos_sin=rope_rows,
            positions=plan.positions,
            slots=plan.slots,
            queries=queries,
            keys=cache.keys,
            values=cache.values,
            key_scales=cache.key_scales,
            value_scales=cache.value_scales,
            tiles=self._rope_tiles,
            programmatic=self._programmatic,
            **self._scratch(split_heads(len(x), *weight, dim, self._rope_tiles), x.device),
        )
        return queries

    def gated(
        self, stream: SquaredRows, norm: Tensor, eps: float, gate_up: LinearParameters
    ) -> Tensor:
        x, weight = stream.hidden, _unpacked(gate_up.weight)
        out = torch.empty((len(x), len(weight.numbers) // 2), dtype=x.dtype, device=x.device)
        norm_matmul_silu(
            x=x,
            squares=stream.squares,
            norm=norm,
            eps=eps,
            weight=weight.numbers,
            scales=weight.scales,
            bias=gate_up.bias,
            out=out,
            tiles=self._silu_tiles,
            programmatic=self._programmatic,
            **self._scratch(split_outputs(len(x), *weight, self._silu_tiles), x.device),
        )
        return out

    def add(self, x: Tensor, linear: LinearParameters, hidden: Tensor) -> SquaredRows:
        weight = _unpacked(linear.weight)
        squares = torch.empty((len(x), count_parts(len(weight.numbers))), device=x.device)
        matmul_add(
            x=x,
            weight=weight.numbers,
            scales=weight.scales,
            bias=linear.bias,
            residual=hidden,
            squares=squares,
            tiles=self._add_tiles,
            programmatic=self._programmatic,
            **self._scratch(split_outputs(len(x), *weight, self._add_tiles), x.device),
        )
        return SquaredRows(hidden, squares)

    def _scratch(self, plan: Split, device: torch.device) -> dict[str, Tensor | None]:
        """What the programs of a product share."""
        if not plan.partials:
            return {"partial": None, "arrivals": None}
        return {
            "partial": torch.empty(plan.partials, device=device),
            "arrivals": self._arrivals.at_least(plan.tiles, device),
        }


class _Weight(NamedTuple):
    """As the kernels take it."""

    numbers: Tensor
    """Or codes."""
    scales: Tensor | None


def _unpacked(weight: PackedWeight) -> _Weight:
    """A weight that `supports` accepts."""
    if isinstance(weight, PackedCodes):
        return _Weight(weight.codes, weight.scales)
    assert isinstance(weight, Tensor)
    return _Weight(weight, None)
