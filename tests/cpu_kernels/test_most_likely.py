"""The most likely outputs of products are those that storing and comparing all outputs finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve_cpu_kernels import linear
from glmserve_cpu_kernels.library import Library
from support.packed_weights import FORMS, Form, make, rows_of

INPUTS = 64
OUTPUTS = 75
"""Three panels, of which the last is not full."""

every_form = pytest.mark.parametrize(
    "form", [form for form in FORMS if form.group in (None, 32)], ids=str
)


def bits(allowed: NDArray[np.bool_]) -> NDArray[np.uint32]:
    words = np.zeros(-(-len(allowed) // 32) * 32, dtype=np.bool_)
    words[: len(allowed)] = allowed
    return np.packbits(words, bitorder="little").view(np.uint32)


def some(*ids: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(OUTPUTS), ids)


EVERYTHING = np.ones(OUTPUTS, dtype=np.bool_)


def check(weight: linear.PackedLinear, x: Tensor, allowed: NDArray[np.bool_]) -> None:
    outputs = weight.widened(x).numpy()
    outputs[:, ~allowed] = -np.inf
    want = outputs.argmax(axis=1)
    indices, values = weight.most_likely(x, bits(allowed))
    assert indices.tolist() == want.tolist()
    assert values.tolist() == outputs[np.arange(len(x)), want].tolist()


@every_form
def test_any_number_of_rows(library: Library, form: Form) -> None:
    weight = make(library, form, OUTPUTS, INPUTS).multiply
    for rows in (*range(1, 14), 16, 241, 500):
        check(weight, rows_of(form, rows, INPUTS), EVERYTHING)


@every_form
@pytest.mark.parametrize(
    "allowed",
    [EVERYTHING & ~some(0, 31, 32, 74), some(*range(40)), some(74), some(3, 33), some(32, 70)],
    ids=["holes", "a limit", "one", "without the last panel", "without the first panel"],
)
def test_only_allowed_outputs(library: Library, form: Form, allowed: NDArray[np.bool_]) -> None:
    weight = make(library, form, OUTPUTS, INPUTS).multiply
    check(weight, rows_of(form, 40, INPUTS), allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ids", [(0, 1), (31, 32), (5, 74), (0, 32, 64)])
def test_of_equal_outputs_the_first(
    library: Library, dtype: torch.dtype, ids: tuple[int, ...]
) -> None:
    weight = torch.zeros(OUTPUTS, INPUTS, dtype=dtype)
    weight[list(ids)] = 1
    packed = linear.pack_floats(library, weight)
    x = torch.ones(3, INPUTS, dtype=dtype)
    check(packed, x, EVERYTHING)
    check(packed, -x, EVERYTHING)  # the largest is 0, and -0 equals it
    check(packed, x, ~some(ids[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
class TestNotFinite:
    def test_infinities(self, library: Library, dtype: torch.dtype) -> None:
        for value in (np.inf, -np.inf):
            x = torch.zeros(1, INPUTS, dtype=dtype)
            x[0, 40] = 3e38
            weight = torch.zeros(OUTPUTS, INPUTS, dtype=dtype)
            weight[50, 40] = 1e38 if value > 0 else -1e38
            packed = linear.pack_floats(library, weight)
            assert packed.widened(x)[0, 50] == value
            check(packed, x, EVERYTHING)

    def test_a_nan_wins(self, library: Library, dtype: torch.dtype) -> None:
        """The answer's id is without meaning then, but not that of a row beside it."""
        weight = torch.randn(OUTPUTS, INPUTS).to(dtype)
        packed = linear.pack_floats(library, weight)
        x = torch.randn(5, INPUTS).to(dtype)
        x[2, 7] = np.nan
        indices, values = packed.most_likely(x, bits(EVERYTHING))
        assert np.isnan(values).tolist() == [False, False, True, False, False]
        others = [0, 1, 3, 4]
        assert indices[others].tolist() == packed.widened(x)[others].argmax(dim=1).tolist()

    def test_a_nan_that_is_not_allowed(self, library: Library, dtype: torch.dtype) -> None:
        weight = torch.randn(OUTPUTS, INPUTS).to(dtype)
        weight[[20, 71]] = np.nan
        packed = linear.pack_floats(library, weight)
        check(packed, torch.randn(4, INPUTS).to(dtype), ~some(20, 71))

    def test_nothing_is_allowed(self, library: Library, dtype: torch.dtype) -> None:
        packed = linear.pack_floats(library, torch.randn(OUTPUTS, INPUTS).to(dtype))
        _, values = packed.most_likely(torch.randn(2, INPUTS).to(dtype), bits(some()))
        assert np.isnan(values).all()


def test_threads_agree(any_library: Library) -> None:
    """Every thread offers its best; rows of one value show which of equals is taken."""
    any_library.set_threads(4)
    weight = linear.pack_floats(any_library, torch.ones(5000, 8))
    for _ in range(50):
        indices, values = weight.most_likely(torch.ones(9, 8), np.full(157, 2**32 - 1, np.uint32))
        assert indices.tolist() == [0] * 9 and values.tolist() == [8.0] * 9
