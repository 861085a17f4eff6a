"""transformers' continuous batching with torch's flash attention.

torch has that for GPUs only, so a plain reference takes its place here.
"""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from transformers import GlmForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import initialization, model_runner

import transformers_flash
from flash_attention import attend_rows, attend_sequences, missing, wrong_rows
from step_floor import Shape
from support.sequence_attention import attend_each, attend_runs
from support.slow import slow
from transformers_batching import attending, batched, missing_attention
from transformers_ways import make_config, make_model

CPU = torch.device("cpu")
OUTPUT_TOKENS = 4
LENGTHS = (3, 70, 1, 33, 16)
"""Of the prompts: one is longer than a step, one as long as a page."""


@pytest.fixture(scope="module")
def model() -> GlmForCausalLM:
    shape = Shape(layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=64, vocab=128)
    return make_model(make_config(shape), torch.float32, CPU)


@pytest.fixture
def prompts() -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(128) for _ in range(length)] for length in LENGTHS]


def settings(page_size: int) -> ContinuousBatchingConfig:
    return ContinuousBatchingConfig(
        page_size=page_size,
        num_blocks=2048 // page_size,
        max_batch_tokens=48,
        allow_block_sharing=False,
    )


class Reference:
    """Attends in the place of torch's flash attention, and counts what for."""

    def __init__(self) -> None:
        self.steps = {"sequences": 0, "rows": 0}
        """Calls of each function."""
        self.continued = 0
        """Sequences with more keys than queries."""
        self.padding = 0
        """Queries of no sequence."""

    def sequences(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_ends: Tensor,
        key_ends: Tensor,
        most_queries: int,
        most_keys: int,
        scale: float,
    ) -> Tensor:
        assert query_ends.dtype == key_ends.dtype == torch.int32
        queries, keys = query_ends.diff(), key_ends.diff()
        assert queries.max() <= most_queries
        assert keys.max() <= most_keys
        self.steps["sequences"] += 1
        self.continued += int((queries < keys).sum())
        self.padding += len(query) - int(query_ends[-1])
        return attend_each(query, key, value, query_ends, key_ends, scale)

    def rows(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        starts: Tensor,
        counts: Tensor,
        most_keys: int,
        scale: float,
    ) -> Tensor:
        assert starts.dtype == counts.dtype == torch.int32
        assert len(starts) == len(counts) + 1 == len(query) + 1
        assert counts.max() <= most_keys
        self.steps["rows"] += 1
        self.padding += int((counts == 0).sum())
        return attend_runs(query, key, value, starts[:-1], counts, scale)


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Reference:
    found = Reference()
    monkeypatch.setattr(transformers_flash, "attend_sequences", found.sequences)
    monkeypatch.setattr(transformers_flash, "attend_rows", found.rows)
    return found


@pytest.fixture(params=[slow(False), True], ids=["exact", "padded"])
def padded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Batches are padded as they are for CUDA graphs."""
    if request.param:
        always = property(lambda _: True, lambda *_: None)
        monkeypatch.setattr(model_runner.ModelRunner, "pad_inputs", always, raising=False)
    return bool(request.param)


def test_all_keys_are_gathered(
    model: GlmForCausalLM, prompts: list[list[int]], reference: Reference, padded: bool
) -> None:
    with attending(model, "flash"):
        found = batched(model, prompts, OUTPUT_TOKENS, settings(page_size=16))
    assert found == [generated(model, prompt) for prompt in prompts]
    assert reference.continued
    assert bool(reference.padding) == padded
    assert reference.steps["rows"] == 0


def test_decodes_read_the_cache_in_place(
    model: GlmForCausalLM,
    prompts: list[list[int]],
    reference: Reference,
    padded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if CUDA were there, without which continuous batching does not."""
    check = "ensure_decode_fast_path_is_available"
    monkeypatch.setattr(initialization, check, lambda *_: None)
    with attending(model, "flash"):
        found = batched(model, prompts, OUTPUT_TOKENS, settings(page_size=80))
    assert found == [generated(model, prompt) for prompt in prompts]
    assert reference.steps["rows"] >= (OUTPUT_TOKENS - 1) * model.config.num_hidden_layers
    assert bool(reference.padding) == padded


def test_sdpa_is_what_it_was(
    model: GlmForCausalLM, prompts: list[list[int]], reference: Reference
) -> None:
    with attending(model, "sdpa"):
        found = batched(model, prompts, OUTPUT_TOKENS, settings(page_size=16))
    assert found == [generated(model, prompt) for prompt in prompts]
    assert reference.steps == {"sequences": 0, "rows": 0}


def generated(model: GlmForCausalLM, prompt: list[int]) -> list[int]:
    """The answer of `generate`."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    output = model.generate(ids, attention_mask=mask, max_new_tokens=OUTPUT_TOKENS, do_sample=False)
    return output[0, len(prompt) :].tolist()


def test_transformers_takes_it_for_the_package(
    model: GlmForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CUDA, it lets steps of decodes have block tables."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = settings(page_size=80)
    with attending(model, "flash"), transformers_flash.reading_in_place():
        config.max_blocks_per_request = 2
        initialization.ensure_decode_fast_path_is_available(model.config, config, False)
    assert config.max_blocks_per_request == 2


def test_what_is_missing_is_named(model: GlmForCausalLM) -> None:
    assert missing_attention(model, "sdpa") is None
    assert missing_attention(model, "flash") == "torch has flash attention for CUDA, not for cpu"
    assert "not torch.float32" in str(missing(torch.float32, torch.device("cuda")))
    assert wrong_rows(torch.bfloat16, CPU)


def test_torch_takes_the_arguments() -> None:
    """Without a GPU: their number, types and shapes, on tensors without contents."""
    with torch.device("meta"):
        ends, counts = torch.empty(65, dtype=torch.int32), torch.empty(64, dtype=torch.int32)
        query = torch.empty(64, 32, 128, dtype=torch.bfloat16)
        key = torch.empty(4096, 2, 128, dtype=torch.bfloat16)
    for output in (
        attend_sequences(query, key, key, ends, ends, 64, 1024, 0.1),
        attend_rows(query, key, key, ends, counts, 1024, 0.1),
    ):
        assert (output.shape, output.dtype) == (query.shape, query.dtype)
