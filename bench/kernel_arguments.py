"""Arguments of the operations in glmserve_kernels, made where they are used and for their tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from glmserve_kernels.few_rows.plan import Split, split_outputs
from glmserve_kernels.norm_matmul_rope.kernel import split_heads
from glmserve_kernels.operation import Arguments, Case, Maker, Operation
from glmserve_kernels.paged_attention.launch import shape_class
from glmserve_kernels.paged_prefill.split_plan import query_tiles, tokens_per_tile
from glmserve_kernels.quantized_matmul.kernel import count_splits
from glmserve_kernels.tiles import Tiles, closest_chip


class DeviceMaker(Maker):
    """Draws its numbers on the device: gigabytes would take the CPU minutes."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        super().__init__(device, dtype, seed)
        self._device_generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype | None = None, scale: float = 1.0) -> Tensor:
        numbers = torch.randn(shape, generator=self._device_generator, device=self.device)
        return numbers.mul_(scale).to(dtype or self.dtype)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.randint(
            low, high, shape, generator=self._device_generator, dtype=dtype, device=self.device
        )


def is_for(case: Case, operation: Operation, chip: str) -> bool:
    """Whether a case is made for this chip, or its closest relative."""
    return closest_chip(chip) in (case.chips or operation.chips)


def tensors(arguments: Arguments) -> dict[str, Tensor]:
    """Those arguments that are tensors."""
    return {name: value for name, value in arguments.items() if isinstance(value, Tensor)}


def copies(arguments: Arguments, count: int) -> Iterator[Arguments]:
    """The arguments themselves, then equal ones elsewhere in memory: `count` in all."""
    yield arguments
    for _ in range(count - 1):
        yield {**arguments, **{name: value.clone() for name, value in tensors(arguments).items()}}


def held_bytes(arguments: Arguments) -> int:
    """Memory that the tensors take."""
    return sum(value.nbytes for value in tensors(arguments).values())


def fit(operation: str, arguments: Arguments, tiles: Tiles) -> Arguments:
    """The same work, cut up as a server with these tiles would cut it up."""
    if operation == "quantized_matmul":
        return {**arguments, "partial": _partial(arguments, tiles)}
    if operation == "paged_prefill":
        return {**arguments, **_query_tiles(arguments, tiles)}
    if operation in _SPLIT_PLANS:
        return {**arguments, **_scratch(_SPLIT_PLANS[operation](arguments, tiles), arguments)}
    return arguments


_SPLIT_PLANS: dict[str, Callable[[Arguments, Tiles], Split]] = {
    "matmul_add": lambda found, tiles: split_outputs(*_product(found), tiles),
    "norm_matmul_silu": lambda found, tiles: split_outputs(*_product(found), tiles),
    "norm_matmul_rope": lambda found, tiles: split_heads(
        *_product(found), found["queries"].shape[2], tiles
    ),
}
"""How products of few rows are cut up."""


def _product(arguments: Arguments) -> tuple[int, Tensor, Tensor | None]:
    """Its rows, its weight and the scales of that."""
    return len(arguments["x"]), arguments["weight"], arguments["scales"]


def _scratch(plan: Split, arguments: Arguments) -> Arguments:
    device = arguments["x"].device
    return {
        "partial": torch.full((plan.partials,), float("nan"), device=device),
        "arrivals": torch.zeros(plan.tiles, dtype=torch.int32, device=device),
    }


def _partial(arguments: Arguments, tiles: Tiles) -> Tensor | None:
    x, weight = arguments["x"], arguments["weight"]
    rows, width = x.shape
    splits = count_splits(rows, weight, width, tiles)
    if splits == 1:
        return None
    return torch.full((splits, rows, len(weight)), float("nan"), device=x.device)


def _query_tiles(arguments: Arguments, tiles: Tiles) -> Arguments:
    heads, kv_heads = arguments["q"].shape[1], arguments["keys"].shape[1]
    tokens = tokens_per_tile(heads // kv_heads, tiles[shape_class(arguments["keys"])])
    lengths: np.ndarray = arguments["query_start"].diff().cpu().numpy()
    items = torch.from_numpy(query_tiles(lengths, tokens)).to(arguments["q"].device)
    return {"items": items, "tokens_per_tile": tokens}
