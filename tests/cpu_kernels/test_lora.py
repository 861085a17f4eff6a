"""What adapters add to a module's results, against float64."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from glmserve.ops.adapters.rows import group_rows
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.lora import Rows, Slots, pack

DTYPES = (torch.float32, torch.bfloat16)
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])


class Adapter(NamedTuple):
    a: Tensor
    b: Tensor
    bias: Tensor | None


def make_adapter(rank: int, rows: int, columns: int, dtype: torch.dtype, *, bias: bool) -> Adapter:
    return Adapter(
        (torch.randn(rank, columns) * columns**-0.5).to(dtype),
        torch.randn(rows, rank).to(dtype),
        torch.randn(rows).to(dtype) if bias else None,
    )


class Module:
    """Slots, and the adapters that are in them."""

    def __init__(
        self,
        library: Library,
        adapters: dict[int, Adapter],
        shape: tuple[int, int],
        dtype: torch.dtype,
    ) -> None:
        self.adapters = adapters
        self.slots = Slots(library, 10, *shape, dtype)
        for slot, adapter in adapters.items():
            self.slots.store(slot, pack(*adapter))

    def add(self, x: Tensor, y: Tensor, slots: list[int]) -> Tensor:
        out = y.clone()
        self.slots.add(x, out, Rows(*group_rows(torch.tensor(slots).numpy())))
        return out

    def check(self, x: Tensor, y: Tensor, slots: list[int]) -> None:
        got = self.add(x, y, slots)
        for row, slot in enumerate(slots):
            adapter = self.adapters.get(slot)
            if adapter is None:
                assert torch.equal(got[row], y[row])
                continue
            a, b = adapter.a.double(), adapter.b.double()
            want = y[row].double() + b @ (a @ x[row].double())
            want += 0 if adapter.bias is None else adapter.bias.double()
            terms = x.shape[1] + len(a) + 3
            size = b.abs() @ (a.abs() @ x[row].double().abs()) + y[row].double().abs() + 5
            allowed = terms * UNIT[torch.float32] * size + UNIT[y.dtype] * want.abs()
            assert ((got[row].double() - want).abs() <= 1.01 * allowed).all()


@every_dtype
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (75, 64), (96, 130), (600, 257)], ids=str)
def test_any_shape(library: Library, dtype: torch.dtype, rows: int, columns: int) -> None:
    """Ranks that fill no tile; rows of all tile sizes; outputs that fill no panel."""
    ranks = (1, 3, 4, 8, 33, 64, 0)
    adapters = {
        slot: make_adapter(rank, rows, columns, dtype, bias=slot % 2 == 0)
        for slot, rank in enumerate(ranks)
    }
    module = Module(library, adapters, (rows, columns), dtype)
    slots = [0, -1, 1, 2, 3, 3, 4, 5, 5, 5, 6, 9, *[4] * 5, *[1] * 7]
    x, y = (torch.randn(len(slots), n).to(dtype) for n in (columns, rows))
    module.check(x, y, slots)


@every_dtype
def test_bits_do_not_depend_on_other_rows_or_threads(library: Library, dtype: torch.dtype) -> None:
    adapters = {slot: make_adapter(5 + slot, 75, 136, dtype, bias=True) for slot in range(4)}
    module = Module(library, adapters, (75, 136), dtype)
    slots = torch.randint(-1, 4, (150,)).tolist()
    x, y = torch.randn(150, 136).to(dtype), torch.randn(150, 75).to(dtype)
    library.set_threads(1)
    together = module.add(x, y, slots)
    for threads in (1, 3):
        library.set_threads(threads)
        assert torch.equal(module.add(x, y, slots), together)
        for first, last in ((0, 1), (3, 5), (7, 30), (100, 149)):
            some = module.add(x[first:last], y[first:last], slots[first:last])
            assert torch.equal(some, together[first:last])
        order = torch.randperm(150)
        shuffled = module.add(x[order], y[order], [slots[i] for i in order])
        assert torch.equal(shuffled, together[order])


def test_a_slot_that_is_emptied_and_filled_again(library: Library) -> None:
    adapters = {3: make_adapter(4, 40, 32, torch.float32, bias=True)}
    module = Module(library, adapters, (40, 32), torch.float32)
    x, y = torch.randn(2, 32), torch.randn(2, 40)
    held = module.slots.num_bytes
    assert held == 4 * (4 * 32 + 4 * 64 + 40)
    module.slots.clear(3)
    assert torch.equal(module.add(x, y, [3, 3]), y)
    assert module.slots.num_bytes == 0
    module.adapters[3] = make_adapter(9, 40, 32, torch.float32, bias=False)
    module.slots.store(3, pack(*module.adapters[3]))
    module.check(x, y, [3, -1])


@every_dtype
def test_a_nan_shows_in_its_own_row(library: Library, dtype: torch.dtype) -> None:
    module = Module(library, {0: make_adapter(8, 40, 64, dtype, bias=False)}, (40, 64), dtype)
    x, y = torch.randn(9, 64).to(dtype), torch.randn(9, 40).to(dtype)
    sound = module.add(x, y, [0] * 9)
    x[4, 7] = torch.nan
    got = module.add(x, y, [0] * 9)
    assert got[4].isnan().all()
    got[4] = sound[4]
    assert torch.equal(got, sound)


def test_nobody_has_an_adapter(library: Library) -> None:
    module = Module(library, {}, (40, 32), torch.float32)
    x, y = torch.randn(3, 32), torch.randn(3, 40)
    assert torch.equal(module.add(x, y, [-1, -1, -1]), y)
    assert torch.equal(module.add(x[:0], y[:0], []), y[:0])
