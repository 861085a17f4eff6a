"""What vs_transformers.py makes of its rounds."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

pytest.importorskip("transformers")

from gpu_ceilings import Ceilings
from served import Served
from step_floor import SHAPES, decode_seconds
from vs_transformers import report, server_arguments

GPU = Ceilings(4e12, 800e12)


@pytest.fixture
def options() -> argparse.Namespace:
    return argparse.Namespace(
        device="cuda",
        shape="chatglm2-6b",
        dtype="bfloat16",
        concurrency=[1, 16],
        prompt_tokens=1024,
        output_tokens=128,
        threads=2,
    )


def round_of(speed: float, batched: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {
        "transformers_one_by_one": 30.0,
        "glmserve_one_by_one": Served(200.0 * speed, 20.0, 4.0 / speed),
    }
    if batched:
        found["transformers_continuous_flash_16"] = 400.0
        found["transformers_continuous_sdpa_16"] = 200.0
    return {**found, "glmserve_together_16": Served(3000.0 * speed, 90.0, 5.0 / speed)}


def test_medians_and_ratios_within_rounds(options: argparse.Namespace) -> None:
    figures = report(options, [round_of(1.0), round_of(1.2), round_of(0.5)], None)
    assert figures["glmserve_one_by_one"] == 200.0
    assert figures["ratio_glmserve_together_16"] == {
        "median": 100.0,
        "lowest": 50.0,
        "highest": 120.0,
    }
    assert figures["ratio_glmserve_together_16_over_continuous_flash"]["median"] == 7.5
    assert figures["ratio_glmserve_together_16_over_continuous_sdpa"]["median"] == 15.0
    assert figures["latency"]["glmserve_one_by_one"] == {
        "first_token_ms": 20.0,
        "inter_token_ms": 4.0,
    }
    assert "ceilings" not in figures


def test_steps_beside_their_floor(options: argparse.Namespace) -> None:
    figures = report(options, [round_of(1.0)], GPU)
    latency = figures["latency"]["glmserve_together_16"]
    floor = 1e3 * decode_seconds(SHAPES["chatglm2-6b"], 16, 1024 + 64, GPU)
    assert latency["step_floor_ms"] == pytest.approx(floor, abs=1e-3)
    assert latency["step_of_floor"] == pytest.approx(floor / 5.0, abs=1e-3)
    assert 3000 < latency["floor_tokens_per_second"] < 16 / floor * 1e3
    assert latency["tokens_of_floor"] == pytest.approx(
        3000 / latency["floor_tokens_per_second"], abs=1e-3
    )


def test_a_round_that_is_not_finished(options: argparse.Namespace) -> None:
    """What it has counts; what it has not comes from the others."""
    figures = report(options, [round_of(1.0), round_of(2.0, batched=False)], GPU)
    assert figures["glmserve_together_16"] == 4500.0
    assert figures["transformers_continuous_flash_16"] == 400.0
    assert figures["ratio_glmserve_together_16_over_continuous_flash"]["highest"] == 7.5
    alone = report(options, [{"transformers_one_by_one": 30.0}], GPU)
    assert alone["latency"] == {}


def test_a_gpu_is_shared(options: argparse.Namespace) -> None:
    """Enough KV cache for all requests at once and no more, and nothing read from disk."""
    arguments = server_arguments(options, "folder")
    tokens = int(arguments[arguments.index("--kv-cache-tokens") + 1])
    assert 16 * (1024 + 128) <= tokens < 32 * (1024 + 128)
    assert "dummy" in arguments
    options.device = "cpu"
    assert "dummy" not in server_arguments(options, "folder")
