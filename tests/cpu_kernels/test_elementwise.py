"""What lies between the products, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from glmserve_cpu_kernels import elementwise
from glmserve_cpu_kernels.library import Library

both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
any_shape = given(
    rows=st.integers(1, 12), size=st.one_of(st.integers(1, 70), st.just(3001)), seed=st.integers(0)
)
few_examples = hypothesis_settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def numbers(rows: int, size: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed % 2**32)
    return (3 * torch.randn(rows, size, generator=generator)).to(dtype)


def assert_rounded_once(got: Tensor, want: Tensor) -> None:
    """Some units of float32, and one rounding to the dtype of `got`."""
    rtol = 4 * torch.finfo(torch.float32).eps + 0.5 * torch.finfo(got.dtype).eps
    torch.testing.assert_close(got.double(), want, rtol=rtol, atol=1e-37)


@both_dtypes
@any_shape
@few_examples
def test_rms_norm(library: Library, dtype: torch.dtype, rows: int, size: int, seed: int) -> None:
    """The sum of what is added is rounded first, to the same bits as torch's."""
    x, residual = numbers(2 * rows, size, dtype, seed).chunk(2)
    weight = numbers(1, size, dtype, seed + 1)[0]
    stream = (x + residual).clone()
    for addend, start in ((x, residual.clone()), (None, stream.clone())):
        got = elementwise.rms_norm(library, addend, start, weight, 1e-5)
        assert torch.equal(start, stream)
        wide = stream.double()
        rms = (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        assert_rounded_once(got, wide / rms * weight.double())


@both_dtypes
@any_shape
@few_examples
def test_silu_and_mul(
    library: Library, dtype: torch.dtype, rows: int, size: int, seed: int
) -> None:
    x = numbers(rows, 2 * size, dtype, seed)
    gate, up = x.double().chunk(2, dim=-1)
    assert_rounded_once(elementwise.silu_and_mul(library, x), gate * gate.sigmoid() * up)


@both_dtypes
@any_shape
@few_examples
def test_gelu(library: Library, dtype: torch.dtype, rows: int, size: int, seed: int) -> None:
    """0.5 x (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3); u is off by up to two units of its
    own, and far below zero the result by 2u times as many."""
    x = numbers(rows, size, dtype, seed)
    wide = x.double()
    u = (2 / torch.pi) ** 0.5 * (wide + 0.044715 * wide**3)
    want = wide * (2 * u).sigmoid()
    unit = torch.finfo(torch.float32).eps
    allowed = (4 + 4 * u.abs()) * unit * want.abs() + torch.finfo(dtype).eps / 2 * want.abs()
    error = (elementwise.gelu(library, x).double() - want).abs()
    assert (error <= allowed + 1e-36 * (1 + wide.abs())).all()


@both_dtypes
def test_silu_over_the_whole_range(library: Library, dtype: torch.dtype) -> None:
    """e^x is good to float32's precision up to 87; a sigmoid is never less than e^-87."""
    extremes = torch.tensor([0.0, -0.0, 1e-40, 1e-20, 200, 1e4, 3e38])
    gate = torch.cat((torch.linspace(-100, 100, 4001), extremes, -extremes)).to(dtype)[None]
    got = elementwise.silu_and_mul(library, torch.cat((gate, torch.ones_like(gate)), dim=1))
    wide = gate.double()
    want = wide * wide.sigmoid()
    rtol = 8 * torch.finfo(torch.float32).eps + 0.5 * torch.finfo(dtype).eps
    error = (got.double() - want).abs()
    assert (error <= rtol * want.abs() + 1.7e-38 * (1 + wide.abs())).all()


@both_dtypes
@pytest.mark.parametrize(("heads", "dim", "rotary"), [(1, 2, 2), (3, 16, 8), (34, 128, 64)])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_rope(
    library: Library, dtype: torch.dtype, heads: int, dim: int, rotary: int, rows: int
) -> None:
    """Heads are the first of longer rows; what lies behind, and behind `rotary`, stays."""
    qkv = numbers(rows, (heads + 2) * dim, dtype, 3).view(rows, heads + 2, dim)
    turns = torch.polar(torch.ones(rows, 1, rotary // 2), torch.randn(rows, 1, rotary // 2) * 9)
    want = qkv.double()
    pairs = torch.view_as_complex(want[:, :heads, :rotary].reshape(rows, heads, -1, 2))
    turned = torch.view_as_real(pairs * turns.to(torch.complex128)).flatten(-2)
    want[:, :heads, :rotary] = turned
    elementwise.rope(library, qkv[:, :heads], turns)
    atol = 2 * torch.finfo(torch.float32).eps * float(want.abs().max())
    rtol = 0.5 * torch.finfo(dtype).eps
    torch.testing.assert_close(qkv.double(), want, rtol=rtol, atol=atol)


@both_dtypes
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("size", [7, 64, 100])
def test_bad_numbers_stay_in_their_rows(
    library: Library, dtype: torch.dtype, bad: float, size: int
) -> None:
    weight = torch.ones(size).to(dtype)
    turns = torch.polar(torch.ones(5, 1, 1), torch.randn(5, 1, 1))

    def rope(x: Tensor) -> Tensor:
        heads = x.clone().view(5, 1, -1)
        elementwise.rope(library, heads, turns)
        return heads[:, 0]

    operations: list[Callable[[Tensor], Tensor]] = [
        lambda x: elementwise.rms_norm(library, None, x, weight.repeat(2), 1e-5),
        lambda x: elementwise.rms_norm(library, x, x.clone(), weight.repeat(2), 1e-5),
        lambda x: elementwise.silu_and_mul(library, x),
        lambda x: elementwise.gelu(library, x),
        rope,
    ]
    sound = numbers(5, 2 * size, dtype, 4)
    spoilt = sound.clone()
    spoilt[2, 0] = bad
    others = [0, 1, 3, 4]
    for operation in operations:
        got, want = operation(spoilt), operation(sound)
        assert not got[2, 0].isfinite()
        assert torch.equal(got[others], want[others])


@both_dtypes
def test_bits_do_not_depend_on_other_rows_or_threads(library: Library, dtype: torch.dtype) -> None:
    """Rows enough for several threads, of a size that fills no whole number of vectors."""
    x, weight = numbers(90, 1002, dtype, 5), numbers(1, 1002, dtype, 6)[0]
    operations: list[Callable[[Tensor], Tensor]] = [
        lambda rows: elementwise.rms_norm(library, rows, rows.clone(), weight, 1e-5),
        lambda rows: elementwise.silu_and_mul(library, rows),
        lambda rows: elementwise.gelu(library, rows),
    ]
    for operation in operations:
        library.set_threads(1)
        together = operation(x)
        for threads in (1, 3):
            library.set_threads(threads)
            assert torch.equal(operation(x), together)
            for first, last in ((0, 1), (3, 5), (17, 40), (89, 90)):
                assert torch.equal(operation(x[first:last]), together[first:last])
