"""torch's flash attention in transformers' continuous batching, which benchmarks measure."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch

pytest.importorskip("transformers")

from transformers.generation.configuration_utils import ContinuousBatchingConfig

from flash_attention import attend_sequences, missing, wrong_rows
from step_floor import Shape
from support.sequence_attention import attend_each
from transformers_batching import attending, batched, missing_attention
from transformers_flash import reading_in_place
from transformers_ways import make_config, make_model

pytestmark = [pytest.mark.gpu]


def test_each_sequence_by_itself(gpu: torch.device) -> None:
    """A whole prompt, the end of one, a decode, and an empty sequence as CUDA graphs have them."""
    if reason := missing(torch.bfloat16, gpu):
        pytest.skip(reason)
    torch.manual_seed(0)
    queries, keys = (300, 5, 1, 64, 0), (300, 205, 700, 64, 0)
    query_ends, key_ends = (
        torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=gpu)
        for counts in (queries, keys)
    )
    query = torch.randn(sum(queries) + 10, 32, 128, dtype=torch.bfloat16, device=gpu)
    key, value = torch.randn(2, sum(keys) + 10, 2, 128, dtype=torch.bfloat16, device=gpu)
    found = attend_sequences(query, key, value, query_ends, key_ends, len(query), 1024, 0.1)
    exact = attend_each(query.float(), key.float(), value.float(), query_ends, key_ends, 0.1)
    used = slice(sum(queries))
    torch.testing.assert_close(found[used].float(), exact[used], atol=2e-2, rtol=2e-2)


def test_rows_of_a_cache(gpu: torch.device) -> None:
    """Decodes that begin anywhere, and one of no sequence."""
    if reason := missing(torch.bfloat16, gpu):
        pytest.skip(reason)
    assert wrong_rows(torch.bfloat16, gpu) is None


def test_a_model_answers(gpu: torch.device) -> None:
    """With CUDA graphs. Rounding may change an answer, but not most of them."""
    shape = Shape(layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=512, vocab=256)
    model = make_model(make_config(shape), torch.bfloat16, gpu)
    if reason := missing_attention(model, "flash"):
        pytest.skip(reason)
    prompts = [[(7 * i + n) % 256 for i in range(n)] for n in (3, 70, 1, 33, 16, 200, 5, 9)]

    def answers(attention: str) -> list[list[int]]:
        config = ContinuousBatchingConfig(page_size=256, num_blocks=64, max_batch_tokens=128)
        with attending(model, attention):
            return batched(model, prompts, 4, config)

    with reading_in_place():
        in_place = answers("flash")
    expected = answers("sdpa")
    for found in (in_place, answers("flash")):
        assert sum(a == b for a, b in zip(found, expected, strict=True)) > len(prompts) / 2
