"""The common interface of operations, for tests, ahead-of-time compilation and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Arguments = dict[str, Any]
"""Keyword arguments of an operation: tensors, numbers."""


class Work(NamedTuple):
    """The least memory traffic and arithmetic of an operation."""

    bytes: int
    """Bytes that must be read or written, each once."""
    flops: int = 0


class Maker:
    """Makes the tensors of a case, the same ones each time.

    On the `meta` device they have shapes and no contents, which is enough for compiling.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        self.device = device
        self.dtype = dtype
        """Of activations. The tolerances of a case are looked up by it."""
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def is_meta(self) -> bool:
        return self.device.type == "meta"

    def normal(self, *shape: int, dtype: torch.dtype | None = None, scale: float = 1.0) -> Tensor:
        """Normally distributed numbers."""
        dtype = dtype or self.dtype
        if self.is_meta:
            return torch.empty(shape, dtype=dtype, device=self.device)
        numbers = torch.randn(shape, generator=self._generator) * scale
        return numbers.to(dtype).to(self.device)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype) -> Tensor:
        """Uniform integers from low to high - 1."""
        if self.is_meta:
            return torch.empty(shape, dtype=dtype, device=self.device)
        return torch.randint(low, high, shape, generator=self._generator).to(dtype).to(self.device)

    def permutation(self, count: int) -> list[int]:
        """0..count-1 in random order, on the host."""
        order: list[int] = torch.randperm(count, generator=self._generator).tolist()
        return order

    def given(self, values: Any, dtype: torch.dtype) -> Tensor:
        """A tensor of these numbers."""
        tensor = torch.tensor(values, dtype=dtype)
        return torch.empty_like(tensor, device="meta") if self.is_meta else tensor.to(self.device)

    def poisoned(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor to be written, filled with NaN or with the lowest integer."""
        dtype = dtype or self.dtype
        poison = float("nan") if dtype.is_floating_point else torch.iinfo(dtype).min
        return torch.full(shape, poison, dtype=dtype, device=self.device)


@dataclass(frozen=True)
class Case:
    """One set of arguments."""

    name: str
    make: Callable[[Maker], Arguments]
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)
    """Activation dtypes to run it in."""
    tolerance: Mapping[torch.dtype, float] | None = None
    """Relative Frobenius error by activation dtype; None: the usual ones."""
    expects: Mapping[str, tuple[str, ...]] | None = None
    """For compiled cases: instructions that must appear in one of its kernels, or with "!" in
    none, by chip ("sm_90": ("LDGSTS128", "!LDSU8"))."""
    chips: tuple[str, ...] | None = None
    """Where it compiles, if not wherever the operation does."""


@dataclass(frozen=True)
class Operation:
    """A kernel with everything that holds it to account."""

    name: str
    launch: Callable[..., None]
    """Writes its `outputs`; all arguments by keyword, and `tiles`, see load_tiles."""
    reference: Callable[..., dict[str, Tensor]]
    """From the same arguments (without `tiles`), untouched by the launch: what `outputs` become, in
    float64. NaN marks places that the launch must leave as they were."""
    outputs: tuple[str, ...]
    cases: tuple[Case, ...]
    """Small and odd: for numerics."""
    served: tuple[Case, ...]
    """Shapes of real models: compiled ahead of time, and measured."""
    work: Callable[..., Work]
    """From the same arguments."""
    scratch: tuple[str, ...] = ()
    """Names of arguments that are scratch memory: overwritten, and not compared."""
    compiled: tuple[Case, ...] = ()
    """Further shapes that are compiled ahead of time, but not measured: a GPU's time is short."""
    chips: tuple[str, ...] = ("sm_80", "sm_90", "gfx942")
    """Where it compiles."""
