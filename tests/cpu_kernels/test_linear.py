"""Products with packed weights, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from glmserve.ops.linear.quantized import quantize
from glmserve_cpu_kernels import linear
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.linear import activation_group
from support.packed_weights import DTYPES, FORMS, Form, Weight, make, rows_of

UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
"""Largest relative error of rounding once."""


TINY = 2.0**-106
"""Rows whose largest number is less may be taken for zeros: codes per unit would be infinite."""


every_form = pytest.mark.parametrize("form", FORMS, ids=str)


def allowed_error(weight: Weight, x: Tensor, want: Tensor) -> Tensor:
    """What the arithmetic may be off by: [T, N].

    Sums: half a unit of float32 for each product or group, of the sum of magnitudes. Activations as
    integers: half a step, which is the group's largest / (127 * 2^(bits - 8)), times each weight.
    The result is rounded once more.
    """
    form, wide, magnitudes = weight.form, x.double(), weight.numbers.abs()
    inputs = x.shape[1]
    allowed = (inputs + 4) * UNIT[torch.float32] * (wide.abs() @ magnitudes.T)
    if form.bits is not None:
        group = activation_group(inputs, weight.weight_groups, form.bits)
        assert group is not None
        missing = -inputs % group
        tops = F.pad(wide, (0, missing)).view(len(x), -1, group).abs().amax(-1)
        steps = tops / (127 * 2 ** (form.activation_bits - 8))
        sums = F.pad(magnitudes, (0, missing)).view(len(magnitudes), -1, group).sum(-1)
        allowed += 0.5001 * steps @ sums.T
    return allowed + 1.01 * UNIT[form.dtype] * (want.abs() + allowed)


def check(weight: Weight, x: Tensor, bias: Tensor | None = None) -> None:
    want = x.double() @ weight.numbers.T + (0 if bias is None else bias.double())
    got = weight.multiply(x, bias)
    assert got.dtype == x.dtype
    error = (got.double() - want).abs()
    allowed = allowed_error(weight, x, want)
    if bias is not None:
        allowed += UNIT[torch.float32] * bias.double().abs()
    assert (error <= allowed).all(), float((error / allowed).max())


@every_form
@pytest.mark.parametrize("with_bias", [False, True])
def test_any_number_of_rows(library: Library, form: Form, with_bias: bool) -> None:
    """Whole tiles and others, more rows than are computed at once, a panel that is not full."""
    weight = make(library, form, 75, 256)
    bias = torch.randn(75).to(form.dtype) if with_bias else None
    for rows in (*range(1, 14), 241, 500):
        check(weight, rows_of(form, rows, 256), bias)


@given(
    outputs=st.integers(1, 100),
    inputs=st.integers(1, 150),
    rows=st.integers(1, 9),
    form=st.sampled_from([form for form in FORMS if form.group is None]),
    seed=st.integers(0, 99),
)
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape(
    library: Library, outputs: int, inputs: int, rows: int, form: Form, seed: int
) -> None:
    """Columns that fill no group, no step, no vector. Two share a byte, or a step of bfloat16."""
    if form.bits == 4 or form == Form(torch.bfloat16):
        inputs += inputs % 2
    check(make(library, form, outputs, inputs, seed), rows_of(form, rows, inputs, seed))


@every_form
def test_each_weight_is_where_it_belongs(library: Library, form: Form) -> None:
    """Rows with a single one give the columns back. Of two codes in a byte the even column's is in
    the high half, as in the official checkpoints."""
    weight = make(library, form, 33, 256)
    got = weight.multiply(torch.eye(256).to(form.dtype))
    rounded = weight.numbers.T.to(form.dtype)
    unit = torch.finfo(form.dtype).eps
    torch.testing.assert_close(got, rounded, rtol=2 * unit, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_inputs_than_are_computed_at_once(library: Library, dtype: torch.dtype) -> None:
    form = Form(dtype)
    weight = make(library, form, 40, 4370)
    for rows in (1, 16, 17, 50):
        check(weight, rows_of(form, rows, 4370))


@every_form
def test_bits_do_not_depend_on_other_rows_or_threads(library: Library, form: Form) -> None:
    weight = make(library, form, 75, 256)
    x = rows_of(form, 300, 256)
    library.set_threads(1)
    together = weight.multiply(x)
    for threads in (1, 3):
        library.set_threads(threads)
        assert torch.equal(weight.multiply(x), together)
        for first, last in ((0, 1), (3, 5), (17, 30), (100, 107), (5, 260), (299, 300)):
            assert torch.equal(weight.multiply(x[first:last]), together[first:last])


@every_form
@pytest.mark.parametrize(
    ("spoil", "is_finite"),
    [
        (lambda row: row[3:4].fill_(torch.nan), False),
        (lambda row: row[200:201].fill_(-torch.nan), False),
        (lambda row: row[7:8].fill_(torch.inf), False),
        (lambda row: row[7:9].fill_(-torch.inf), False),
        (lambda row: row.zero_(), True),
        (lambda row: row.mul_(1e30), True),
        (lambda row: row.mul_(1e-30), True),
        (lambda row: row.fill_(1e-42), True),
    ],
    ids=["nan", "-nan", "inf", "-inf", "zero", "huge", "small", "subnormal"],
)
def test_unusual_rows(
    library: Library, form: Form, spoil: Callable[[Tensor], Tensor], is_finite: bool
) -> None:
    """They show in their own row, and leave the others' bits alone."""
    weight, row = make(library, form, 40, 256), 4
    x = rows_of(form, 9, 256)
    sound = weight.multiply(x)
    spoil(x[row])
    got = weight.multiply(x)
    if is_finite:
        want = x[row : row + 1].double() @ weight.numbers.T
        allowed = allowed_error(weight, x[row : row + 1], want) + TINY * weight.numbers.abs().sum(1)
        assert ((got[row].double() - want).abs() <= allowed).all()
    else:
        assert not got[row].isfinite().any()
    got[row] = sound[row]
    assert torch.equal(got, sound)


def test_no_rows(library: Library) -> None:
    for form in FORMS:
        assert make(library, form, 40, 256).multiply(rows_of(form, 0, 256)).shape == (0, 40)


def test_rows_that_lie_apart(library: Library) -> None:
    weight = make(library, Form(torch.float32), 40, 32)
    x = torch.randn(5, 64)[:, ::2]
    assert torch.equal(weight.multiply(x), weight.multiply(x.contiguous()))


def test_groups_without_a_kernel(any_library: Library) -> None:
    codes, scales = torch.zeros(4, 24, dtype=torch.int8), torch.ones(4, 4)
    with pytest.raises(ValueError, match="no kernel for 4 scales over 24 columns"):
        linear.pack_codes(any_library, codes, scales, 8, 15)


@pytest.mark.parametrize(
    ("columns", "weight_groups", "bits", "group"),
    [
        (4096, 1, 8, 128),
        (13, 1, 4, 16),
        (13, 1, 8, 16),
        (9, 1, 8, 12),
        (48, 1, 8, 48),
        (512, 4, 8, 128),
        (512, 2, 4, 128),
        (512, 16, 4, 32),
        (48, 4, 8, 12),
        (48, 4, 4, None),
        (640, 2, 4, 80),
        (1344, 3, 8, 112),
    ],
)
def test_activation_group(columns: int, weight_groups: int, bits: int, group: int | None) -> None:
    assert activation_group(columns, weight_groups, bits) == group


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outputs", [32, 45, 128])
@pytest.mark.parametrize("rows", [1, 5, 30])
def test_widened_numbers_are_the_rounded_ones(
    library: Library, dtype: torch.dtype, outputs: int, rows: int
) -> None:
    weight, x = torch.randn(outputs, 64).to(dtype), torch.randn(rows, 64).to(dtype)
    packed = linear.pack_floats(library, weight)
    assert torch.equal(packed.widened(x), packed(x).float())
    codes = quantize(weight.float(), 8, None)
    integers = linear.pack_codes(library, codes.codes, codes.scales, 8, 8)
    assert torch.equal(integers.widened(x), integers(x).float())
