"""Each number of an 8-bit cache is as close as its codes allow, and no error hides in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Maker
from glmserve_kernels.rope_cache.cases import make_arguments
from glmserve_kernels.rope_cache.kernel import LARGEST_CODE, rope_cache
from glmserve_kernels.rope_cache.reference import rope_cache as reference
from glmserve_kernels.tiles import closest_chip, load_tiles

FLOAT32_ERROR = 1e-6
"""Of rotating and scaling, relative to the largest number of the vector."""


@pytest.fixture(params=[torch.int8, torch.float8_e4m3fn], ids=str)
def cache(request: pytest.FixtureRequest, device: torch.device, chip: str) -> torch.dtype:
    dtype: torch.dtype = request.param
    if dtype.is_floating_point and device.type == "cuda" and closest_chip(chip) != "sm_90":
        pytest.skip(f"{chip} has no float8_e4m3fn")
    return dtype


def make(device: torch.device, dtype: torch.dtype, cache: torch.dtype | None) -> Arguments:
    return make_arguments(
        Maker(device, dtype),
        tokens=9,
        heads=4,
        kv_heads=3,
        dim=48,
        rotary=20,
        block_size=16,
        cache=cache,
    )


def exact(arguments: Arguments) -> tuple[Tensor, Tensor]:
    """The keys and values [T, Hkv, D] that are to be cached, in float64."""
    kept = {"key_scales": None, "value_scales": None}
    for name in ("keys", "values"):
        shape = (*arguments["keys"].shape,)
        kept[name] = torch.zeros(shape, dtype=torch.float64, device=arguments["qkv"].device)
    expected = reference(**{**arguments, **kept})
    return (
        at_slots(expected["keys"], arguments["slots"]),
        at_slots(expected["values"], arguments["slots"]),
    )


def cached(arguments: Arguments) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes [T, Hkv, D] and scales [T, Hkv, 1] of the keys, then of the values."""
    for numbers, scales in (
        (arguments["keys"].double(), arguments["key_scales"]),
        (arguments["values"].double().mT, arguments["value_scales"]),
    ):
        slots = arguments["slots"]
        yield at_slots(numbers, slots), at_slots(scales.double()[..., None], slots)


def at_slots(cache: Tensor, slots: Tensor) -> Tensor:
    """What a cache [num_blocks, Hkv, BLOCK_SIZE, D] holds for the tokens that are not padding."""
    used = slots[slots >= 0]
    return cache[used // cache.shape[2], :, used % cache.shape[2]]


def half_steps(numbers: Tensor, scale: Tensor, cache: torch.dtype) -> Tensor:
    """Half the distance between the codes around each number, as numbers."""
    if cache == torch.int8:
        return scale / 2
    _, exponent = torch.frexp(numbers / scale.where(scale > 0, 1))  # mantissa in [1/2, 1)
    return scale * torch.exp2(exponent.clamp(min=-5).double() - 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_codes_are_the_nearest(
    device: torch.device, chip: str, cache: torch.dtype, dtype: torch.dtype
) -> None:
    arguments = make(device, dtype, cache)
    wanted = exact(arguments)
    rope_cache(**arguments, tiles=load_tiles("rope_cache", chip))
    for want, (codes, scale) in zip(wanted, cached(arguments), strict=True):
        largest = want.abs().amax(-1, keepdim=True)
        torch.testing.assert_close(scale, largest / LARGEST_CODE[cache], rtol=1e-6, atol=0)
        error = (codes * scale - want).abs()
        bound = half_steps(want, scale, cache) + FLOAT32_ERROR * largest
        assert (error <= bound).all(), float((error - bound).max())
        assert codes.abs().amax(-1)[scale[..., 0] > 0].eq(LARGEST_CODE[cache]).all()
        assert not codes[1].any()  # the vectors of token 1 are all zero
        assert not scale[1].any()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the interpreter
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_vector_with_a_bad_number_is_nan_and_no_other_is(
    device: torch.device, chip: str, cache: torch.dtype, bad: float
) -> None:
    arguments = make(device, torch.bfloat16, cache)
    arguments["qkv"][2, 4 + 1, 30] = bad  # a key of head 1
    arguments["qkv"][4, 4 + 3 + 2, 0] = bad  # a value of head 2
    rope_cache(**arguments, tiles=load_tiles("rope_cache", chip))
    cached_tokens = [token for token in range(9) if token % 4 != 3]
    for (codes, scale), (token, head) in zip(cached(arguments), ((2, 1), (4, 2)), strict=True):
        is_bad = (codes * scale).isnan()
        bad_vector = is_bad[cached_tokens.index(token), head]
        assert bad_vector.all()
        assert is_bad.sum() == bad_vector.numel()


def test_tiny_numbers_stay_tiny(device: torch.device, chip: str, cache: torch.dtype) -> None:
    arguments = make(device, torch.float32, cache)
    arguments["qkv"] *= 1e-41
    largest = arguments["qkv"].abs().max().double()
    rope_cache(**arguments, tiles=load_tiles("rope_cache", chip))
    for codes, scale in cached(arguments):
        assert (codes * scale).abs().max() <= 2 * largest
