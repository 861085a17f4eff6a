"""How options and memory become the size of the KV cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from glmserve.config import RunnerConfig
from glmserve.contract.prompt_layout import PromptMarks
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig, RopeConfig
from glmserve.runner.limits import CacheMemory, format_bytes, plan_limits, step_tokens

MODEL = ModelConfig(
    path=Path("config.json"),
    model_type="chatglm",
    vocab_size=100,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    ffn_size=64,
    norm="rmsnorm",
    norm_eps=1e-5,
    final_norm=True,
    qkv_bias=True,
    linear_bias=False,
    qkv_per_head=False,
    residual_post_norm=False,
    tied_embeddings=False,
    rope=RopeConfig(8, 10000.0, 1.0),
    max_context=1000,
    stored_dtype="float16",
    eos_token_ids=(2,),
    unknown_fields=(),
)
TOKEN = 100  # bytes
CONFIG = RunnerConfig(checkpoint="x", max_batch_size=8)
ONE_REQUEST = 1008 * TOKEN  # 1000 tokens in whole blocks


def plan(available: int, **options: object) -> tuple[int, int]:
    """(blocks, context) for that many bytes of memory."""
    config = msgspec.structs.replace(CONFIG, **options)
    limits = plan_limits(config, MODEL, CacheMemory(available, 0.25, TOKEN, 16), 99)
    assert limits.max_context <= limits.token_capacity
    assert limits.max_sequences == 8
    assert limits.max_step_tokens == 99
    return limits.num_blocks, limits.max_context


class TestDefault:
    def test_plenty(self) -> None:
        assert plan(10**9) == (8 * 63, 1000)

    def test_a_share_of_the_memory(self) -> None:
        assert plan(16 * ONE_REQUEST) == (4 * 63, 1000)

    def test_more_than_the_share_for_one_whole_request(self) -> None:
        assert plan(2 * ONE_REQUEST) == (63, 1000)

    def test_context_cut_to_what_fits(self) -> None:
        blocks, context = plan(ONE_REQUEST)
        assert context == blocks * 16
        assert 0.7 * 1000 < context <= 0.8 * 1008

    def test_nothing_left(self) -> None:
        for available in (0, -5, 100):
            with pytest.raises(DeviceError, match="not enough memory"):
                plan(available)

    def test_a_context_that_was_asked_for_is_not_cut(self) -> None:
        with pytest.raises(DeviceError, match=r"900 tokens needs .* lower --max-model-len"):
            plan(ONE_REQUEST // 2, max_model_len=900)

    def test_a_shorter_context_that_fits(self) -> None:
        assert plan(ONE_REQUEST // 2, max_model_len=300)[1] == 300


class TestOptions:
    def test_tokens_are_rounded_up_to_blocks(self) -> None:
        assert plan(10**9, kv_cache_tokens=2001) == (126, 1000)

    def test_memory_is_rounded_down_to_blocks(self) -> None:
        assert plan(10**9, kv_cache_memory=100 * 16 * TOKEN + 1599) == (100, 1000)

    def test_few_tokens_cut_the_context(self) -> None:
        assert plan(10**9, kv_cache_tokens=500) == (32, 512)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"kv_cache_tokens": 500, "max_model_len": 800}, "--kv-cache-tokens 500"),
            ({"kv_cache_memory": 5000, "max_model_len": 800}, "--kv-cache-memory 4.9 KiB"),
            ({"kv_cache_memory": 100}, "--kv-cache-memory 100 B"),
            ({"max_model_len": 1001}, "--max-model-len 1001"),
        ],
    )
    def test_contradictions(self, options: dict[str, int], named: str) -> None:
        with pytest.raises(OptionError, match=named):
            plan(10**9, **options)

    def test_more_than_there_is(self) -> None:
        with pytest.raises(DeviceError, match="lower --kv-cache-tokens"):
            plan(10**6, kv_cache_tokens=20000)

    def test_context_of_the_model(self) -> None:
        short = dataclasses.replace(MODEL, max_context=5)
        limits = plan_limits(CONFIG, short, CacheMemory(10**9, 0.25, TOKEN, 16), 99)
        assert (limits.num_blocks, limits.max_context) == (8, 5)


class TestWholePrompts:
    """Of a model that reads prompts in both directions."""

    MODEL = dataclasses.replace(MODEL, prompt_marks=PromptMarks(90, 91, 92))
    MEMORY = CacheMemory(10**9, 0.25, TOKEN, 16)

    def test_neither_chunks_nor_cached_prefixes(self) -> None:
        limits = plan_limits(CONFIG, self.MODEL, self.MEMORY, 2000)
        assert not limits.chunked_prefill
        assert not limits.prefix_cache
        assert limits.prompt_marks == self.MODEL.prompt_marks
        assert limits.max_context == 1000

    def test_context_is_what_one_step_holds(self) -> None:
        assert plan_limits(CONFIG, self.MODEL, self.MEMORY, 99).max_context == 99
        asked = msgspec.structs.replace(CONFIG, max_model_len=100)
        with pytest.raises(OptionError, match="--max-step-tokens 99 is too little"):
            plan_limits(asked, self.MODEL, self.MEMORY, 99)

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({}, 1008),
            ({"max_model_len": 700}, 708),
            ({"max_model_len": 300}, 512),
            ({"max_step_tokens": 64}, 64),
        ],
    )
    def test_steps_hold_a_prompt_and_all_others(self, options: dict[str, int], found: int) -> None:
        config = msgspec.structs.replace(CONFIG, **options)
        assert step_tokens(config, self.MODEL, 512) == found


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (2**40, "1024.0 GiB")],
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("wanted", "sequences", "found"), [(None, 8, 512), (None, 1000, 1000), (64, 8, 64)]
)
def test_step_tokens(wanted: int | None, sequences: int, found: int) -> None:
    config = RunnerConfig(checkpoint="x", max_step_tokens=wanted, max_batch_size=sequences)
    assert step_tokens(config, MODEL, 512) == found
