"""glmserve against transformers' own `generate` on the same random weights, in one run.

    python bench/vs_transformers.py --dtype float32 --rounds 3

Both run in turn, round by round (A B A B ...), so that the ratios hold on a machine whose speed
drifts. transformers generates one request at a time; glmserve answers through HTTP, first one
request at a time, then many at once. Every request has the same lengths, and ends only there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import torch
from transformers import GlmConfig, GlmForCausalLM

from client import send
from local_server import LocalServer

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "num_hidden_layers": 6,
        "hidden_size": 192,
        "num_attention_heads": 6,
        "head_dim": 32,
        "intermediate_size": 512,
        "vocab_size": 2560,
    },
    "S": {
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "head_dim": 64,
        "intermediate_size": 2048,
        "vocab_size": 65024,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(options, Path(folder))
        with LocalServer(
            *("--checkpoint", folder, "--skip-tokenizer-init", "--dtype", options.dtype),
            *("--threads", str(options.threads), "--no-prefix-cache", "--device", "cpu"),
            *("--max-model-len", str(options.prompt_tokens + options.output_tokens)),
        ) as server:
            rounds = [compare(options, model, server.url, seed) for seed in range(options.rounds)]
    report(options, rounds)


def make_model(options: argparse.Namespace, folder: Path) -> GlmForCausalLM:
    """A model with seeded random weights, also saved where glmserve finds it."""
    torch.manual_seed(0)
    config = GlmConfig(
        **SHAPES[options.shape],
        num_key_value_heads=2,
        attention_bias=True,
        pad_token_id=0,
        eos_token_id=[],
    )
    model = GlmForCausalLM(config).to(getattr(torch, options.dtype)).eval()
    model.save_pretrained(folder)
    return model


def compare(
    options: argparse.Namespace, model: GlmForCausalLM, url: str, seed: int
) -> dict[str, float]:
    """Output tokens per second of each way, measured one after another."""
    rng = random.Random(seed)
    prompts = [
        [rng.randrange(100, 2000) for _ in range(options.prompt_tokens)]
        for _ in range(options.concurrency)
    ]
    return {
        "transformers_one_by_one": generate_rate(options, model, prompts[:2]),
        "glmserve_one_by_one": asyncio.run(serve_rate(options, url, prompts[:2], 1)),
        "glmserve_together": asyncio.run(serve_rate(options, url, prompts, len(prompts))),
    }


def generate_rate(
    options: argparse.Namespace, model: GlmForCausalLM, prompts: list[list[int]]
) -> float:
    start = time.perf_counter()
    for prompt in prompts:
        with torch.inference_mode():
            output = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=options.output_tokens,
                do_sample=False,
            )
        if output.shape[1] != len(prompt) + options.output_tokens:
            raise SystemExit("transformers stopped early")
    return len(prompts) * options.output_tokens / (time.perf_counter() - start)


async def serve_rate(
    options: argparse.Namespace, url: str, prompts: list[list[int]], concurrency: int
) -> float:
    def body(prompt: list[int]) -> dict[str, object]:
        return {
            "model": options.served_name,
            "prompt": prompt,
            "temperature": 0,
            "max_tokens": options.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{url}/v1/models") as response:
            options.served_name = (await response.json())["data"][0]["id"]
        start = time.perf_counter()
        for i in range(0, len(prompts), concurrency):
            batch = prompts[i : i + concurrency]
            for result in await asyncio.gather(
                *(send(session, f"{url}/v1/completions", body(prompt)) for prompt in batch)
            ):
                if result.error or result.output_tokens != options.output_tokens:
                    raise SystemExit(f"glmserve: {result.error or 'stopped early'}")
        return len(prompts) * options.output_tokens / (time.perf_counter() - start)


def report(options: argparse.Namespace, rounds: list[dict[str, float]]) -> None:
    """Medians over the rounds, and ratios taken within each round."""
    figures: dict[str, Any] = {
        name: round(median(r[name] for r in rounds), 1) for name in rounds[0]
    }
    for name in ("glmserve_one_by_one", "glmserve_together"):
        ratios = sorted(r[name] / r["transformers_one_by_one"] for r in rounds)
        figures[f"ratio_{name}"] = {
            "median": round(median(ratios), 2),
            "lowest": round(ratios[0], 2),
            "highest": round(ratios[-1], 2),
        }
    figures["settings"] = {
        key: getattr(options, key)
        for key in ("shape", "dtype", "concurrency", "prompt_tokens", "output_tokens", "threads")
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
