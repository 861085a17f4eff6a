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
from transformers.generation.continuous_batching import model_runner

import transformers_flash
from step_floor import Shape
from support.sequence_attention import attend_each
from transformers_batching import attending, batched, missing_attention
from transformers_ways import make_config, make_model

CPU = torch.device("cpu")
OUTPUT_TOKENS = 6
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


@pytest.fixture
def batching() -> ContinuousBatchingConfig:
    return ContinuousBatchingConfig(
        page_size=16, num_blocks=32, max_batch_tokens=48, allow_block_sharing=False
    )


class Reference:
    """Attends in the place of torch's flash attention, and counts what for."""

    def __init__(self) -> None:
        self.calls = 0
        self.continued = 0
        """Sequences with more keys than queries."""
        self.padding = 0
        """Query tokens of no sequence."""

    def __call__(
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
        self.calls += 1
        self.continued += int((queries < keys).sum())
        self.padding += len(query) - int(query_ends[-1])
        return attend_each(query, key, value, query_ends, key_ends, scale)


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Reference:
    found = Reference()
    monkeypatch.setattr(transformers_flash, "attend_sequences", found)
    return found


@pytest.fixture(params=[False, True], ids=["exact", "padded"])
def padded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Batches are padded as they are for CUDA graphs."""
    if request.param:
        always = property(lambda _: True, lambda *_: None)
        monkeypatch.setattr(model_runner.ModelRunner, "pad_inputs", always, raising=False)
    return bool(request.param)


def test_greedy_answers(
    model: GlmForCausalLM,
    prompts: list[list[int]],
    batching: ContinuousBatchingConfig,
    reference: Reference,
    padded: bool,
) -> None:
    with attending(model, "flash"):
        found = batched(model, prompts, OUTPUT_TOKENS, batching)
    assert reference.continued
    assert bool(reference.padding) == padded
    calls = reference.calls
    with attending(model, "sdpa"):
        assert batched(model, prompts, OUTPUT_TOKENS, batching) == found
    assert [generated(model, prompt) for prompt in prompts] == found
    assert reference.calls == calls


def generated(model: GlmForCausalLM, prompt: list[int]) -> list[int]:
    """The answer of `generate`."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    output = model.generate(ids, attention_mask=mask, max_new_tokens=OUTPUT_TOKENS, do_sample=False)
    return output[0, len(prompt) :].tolist()


def test_what_is_missing_is_named(model: GlmForCausalLM) -> None:
    assert missing_attention(model, "sdpa") is None
    assert missing_attention(model, "flash") == "torch has flash attention for CUDA, not for cpu"
    assert "not torch.float32" in str(
        transformers_flash.missing(torch.float32, torch.device("cuda"))
    )


def test_torch_takes_the_arguments() -> None:
    """Without a GPU: their number, types and shapes, on tensors without contents."""
    ends = torch.empty(5, dtype=torch.int32, device="meta")
    query = torch.empty(64, 32, 128, dtype=torch.bfloat16, device="meta")
    key = torch.empty(4096, 2, 128, dtype=torch.bfloat16, device="meta")
    output = transformers_flash.attend_sequences(query, key, key, ends, ends, 64, 1024, 0.1)
    assert (output.shape, output.dtype) == (query.shape, query.dtype)
