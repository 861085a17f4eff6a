"""transformers' model of a shape, and how fast it generates for one request at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import GlmConfig, GlmForCausalLM

from step_floor import Shape


def make_config(shape: Shape) -> GlmConfig:
    """A model of this shape whose answers never end by themselves."""
    return GlmConfig(
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.ffn,
        vocab_size=shape.vocab,
        attention_bias=True,
        pad_token_id=0,
        eos_token_id=[],
    )


def make_model(config: GlmConfig, dtype: torch.dtype, device: torch.device) -> GlmForCausalLM:
    """With seeded random weights."""
    torch.manual_seed(0)
    with _making(dtype, device):
        return GlmForCausalLM(config).eval()


def write_checkpoint(shape: Shape, folder: Path) -> None:
    """A model of this shape in bfloat16; the folder appears when it is complete."""
    part = folder.with_name(folder.name + ".part")
    make_model(make_config(shape), torch.bfloat16, torch.device("cpu")).save_pretrained(
        part, max_shard_size="1TB"
    )
    part.rename(folder)


@contextmanager
def _making(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """New parameters are of this dtype, on this device: no float32 copy in between."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def generate_rate(model: GlmForCausalLM, prompts: list[list[int]], output_tokens: int) -> float:
    """Output tokens per second of `generate`, one prompt after another.

    Raises:
        SystemExit: it stopped early.
    """
    start = time.perf_counter()
    for prompt in prompts:
        ids = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=output_tokens,
                do_sample=False,
            ).cpu()
        if output.shape[1] != len(prompt) + output_tokens:
            raise SystemExit("transformers stopped early")
    return len(prompts) * output_tokens / (time.perf_counter() - start)
