"""The arithmetic of the model of ranks and stages, by hand."""

from __future__ import annotations

import pytest

import parallel_model
from gpu_ceilings import Ceilings
from parallel_model import (
    MODELS,
    SETUPS,
    Link,
    Setup,
    alone_seconds,
    collective_seconds,
    hand_over_seconds,
    pipeline_seconds,
    tensor_seconds,
)
from step_floor import Shape, decode_seconds

SMALL = Shape(layers=4, hidden=100, heads=8, kv_heads=2, head_dim=10, ffn=400, vocab=1000)
MEMORY = Ceilings(copy_bytes=1e6, bf16_flops=1e30)  # arithmetic takes no time
FREE = Setup("", MEMORY, fixed=0.0, link=Link(0.0, 1e30), most=8)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_read_their_part(ranks: int) -> None:
    """Weights are cut evenly, but for key/value heads that several ranks have."""
    alone = alone_seconds(SMALL, 1, 0, FREE)
    replicated = 4 * 100 * 2 * 10 * max(0, ranks - 2) * 2 / 1e6 / ranks
    found = tensor_seconds(SMALL, 1, 0, FREE, ranks)
    assert found == pytest.approx(alone / ranks + replicated)


def test_contexts_are_read_by_each_rank_that_has_the_head() -> None:
    def of_contexts(ranks: int) -> float:
        long, none = (tensor_seconds(SMALL, 3, n, FREE, ranks) for n in (1000, 0))
        return long - none

    assert of_contexts(2) == pytest.approx(of_contexts(1) / 2)
    assert of_contexts(4) == pytest.approx(of_contexts(2)), "2 key/value heads"


def test_sums_and_the_join_of_logits() -> None:
    """9 sums of 3 rows of 100 numbers: 2 * 3/4 of 600 bytes each. 3/4 of 3 * 1000 float32."""
    link = Link(latency=2.0, bytes_per_second=100.0)
    assert collective_seconds(SMALL, 3, link, 4) == pytest.approx(9 * (2 + 9) + 2 + 90)


def test_one_request_gains_nothing_from_stages() -> None:
    slow = FREE._replace(fixed=0.5, link=Link(2.0, 100.0))
    hand_over = 2 + 2 * 100 * 2 / 100
    assert hand_over_seconds(SMALL, 1, slow.link) == hand_over
    alone = alone_seconds(SMALL, 1, 10, slow)
    assert pipeline_seconds(SMALL, 1, 10, slow, 2) == pytest.approx(alone + hand_over)
    assert pipeline_seconds(SMALL, 1, 10, slow, 4) == pytest.approx(alone + 3 * hand_over)


def test_stages_share_requests_and_layers() -> None:
    """The last stage has the output layer, and the others wait for it."""
    half = decode_seconds(SMALL._replace(layers=2), 4, 10, MEMORY)
    assert pipeline_seconds(SMALL, 8, 10, FREE, 2) == pytest.approx(2 * half)


def test_arithmetic_is_shared_out() -> None:
    busy = FREE._replace(device=Ceilings(copy_bytes=1e30, bf16_flops=1e6))
    layers = SMALL._replace(vocab=0)
    alone = alone_seconds(layers, 8, 10, busy)
    assert pipeline_seconds(layers, 8, 10, busy, 2) == pytest.approx(alone / 2)
    assert tensor_seconds(layers, 8, 10, busy, 2) == pytest.approx(alone / 2)


def test_published_sizes() -> None:
    parameters = {name: m.layer_parameters + 2 * m.head_parameters for name, m in MODELS.items()}
    assert parameters["ChatGLM2-6B"] == pytest.approx(6.24e9, rel=2e-3)
    assert parameters["GLM-4-9B"] == pytest.approx(9.4e9, rel=1e-2)


def test_the_table_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    parallel_model.main()
    text = capsys.readouterr().out
    assert all(setup.name in text for setup in SETUPS)
    assert text.count("GLM-4-9B") == 3 * len(SETUPS)
