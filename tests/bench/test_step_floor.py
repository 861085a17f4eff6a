"""Floors of ChatGLM2-6B: its published size, and what a step must move and compute by hand."""

from __future__ import annotations

import pytest

from gpu_ceilings import Ceilings, floor_seconds
from step_floor import Shape, decode_seconds, prefill_seconds, request_seconds

CHATGLM2_6B = Shape(
    layers=28, hidden=4096, heads=32, kv_heads=2, head_dim=128, ffn=13696, vocab=65024
)
GPU = Ceilings(copy_bytes=4e12, bf16_flops=800e12)


def test_size_of_the_model() -> None:
    embedding = CHATGLM2_6B.head_parameters
    parameters = CHATGLM2_6B.layer_parameters + CHATGLM2_6B.head_parameters + embedding
    assert parameters == pytest.approx(6.24e9, rel=2e-3)
    assert 2 * CHATGLM2_6B.token_numbers == 28672  # bytes of a token in the cache


def test_what_bounds_it() -> None:
    assert floor_seconds(4 * 10**12, 8 * 10**12, GPU) == (1.0, "memory")
    assert floor_seconds(4 * 10**9, 1600 * 10**12, GPU) == (2.0, "compute")


@pytest.mark.parametrize(
    ("batch", "context", "seconds"),
    [
        (1, 0, 11.954e9 / 4e12),  # every weight once
        (64, 4096, 11.954e9 / 4e12 + 64 * 4096 * 28672 / 4e12),
        (512, 0, 512 * 11.954e9 / 800e12),  # two operations for each weight and token
    ],
)
def test_decode(batch: int, context: int, seconds: float) -> None:
    assert decode_seconds(CHATGLM2_6B, batch, context, GPU) == pytest.approx(seconds, rel=1e-3)


def test_smaller_weights() -> None:
    half = decode_seconds(CHATGLM2_6B, 1, 0, GPU, weight_bytes=1)
    assert half == pytest.approx(decode_seconds(CHATGLM2_6B, 1, 0, GPU) / 2)


def test_the_output_layer_keeps_8_bits() -> None:
    smaller = decode_seconds(CHATGLM2_6B, 1, 0, GPU, weight_bytes=0.5)
    assert smaller == pytest.approx((5.711e9 / 2 + 4096 * 65024) / 4e12, rel=1e-3)
    prompt = prefill_seconds(CHATGLM2_6B, 1, 1, GPU, weight_bytes=0.5)
    assert prompt == pytest.approx(smaller, rel=1e-3)


def test_prefill() -> None:
    products = 2 * 5.711e9 * 2 * 8192 / 800e12
    attention = 4 * 28 * 4096 * 2 * 8192 * 8193 / 2 / 800e12
    head = 2 * 4096 * 65024 / 4e12
    seconds = prefill_seconds(CHATGLM2_6B, 2, 8192, GPU)
    assert seconds == pytest.approx(products + attention + head, rel=1e-3)


def test_whole_requests() -> None:
    """The sum over all steps, each at its own context."""
    steps = sum(decode_seconds(CHATGLM2_6B, 16, 1024 + i, GPU) for i in range(1, 128))
    whole = prefill_seconds(CHATGLM2_6B, 16, 1024, GPU) + steps
    assert request_seconds(CHATGLM2_6B, 16, 1024, 128, GPU) == pytest.approx(whole, rel=1e-4)
