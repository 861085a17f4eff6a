"""glmserve against transformers on the same model, in one run.

    python bench/vs_transformers.py --dtype float32 --rounds 3
    python bench/vs_transformers.py --device cuda --shape chatglm2-6b --dtype bfloat16 \\
        --concurrency 1 16 64 --prompt-tokens 1024 --output-tokens 128

All run in turn, round by round (A B A B ...), so that the ratios hold on a machine whose speed
drifts. transformers' `generate` makes one request at a time; glmserve answers through HTTP, first
one request at a time, then many at once. Every request has the same lengths, and ends only there.

On a GPU, transformers also batches continuously, once with torch's scaled_dot_product_attention and
a mask of the batch (`transformers_continuous_sdpa_16`, with 16 requests), once with torch's flash
attention (`transformers_continuous_flash_16`). glmserve's steps are compared with the least time
that this GPU could take for them. Both have random weights there, but not the same ones:
nothing is written to disk.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import GlmForCausalLM

import gpu_ceilings
from gpu_ceilings import Ceilings
from gpu_stages import rows
from local_server import LocalServer
from served import Served, complete
from step_floor import SHAPES, Shape, decode_seconds, request_seconds
from transformers_batching import ATTENTIONS, batched_rate, missing_attention
from transformers_ways import generate_rate, make_config, make_model

_ONE_BY_ONE = 2
"""Requests of a round."""
Round = dict[str, float | Served]


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    ceilings = None
    if options.device == "cuda":
        ceilings = gpu_ceilings.measure()
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as folder:
        model = prepare(options, Path(folder))
        with LocalServer(*server_arguments(options, folder)) as server:
            rounds: list[Round] = []
            for seed in range(options.rounds):
                rounds.append({})
                for name, found in measure_round(options, model, server.url, seed):
                    rounds[-1][name] = found
                    rows.append(options.rows, "serving", row(options, name, seed, found))
                    text = json.dumps(report(options, rounds, ceilings), indent=2)
                    if options.json:  # each time: a limit may end this before its end
                        options.json.write_text(text + "\n")
    print(text)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument(
        "--batching",
        action=argparse.BooleanOptionalAction,
        help="also measure transformers' continuous batching; default: on a GPU",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write medians and ratios to it")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="append each measurement to it")
    options = parser.parse_args()
    if options.batching is None:
        options.batching = options.device == "cuda"
    return options


def row(
    options: argparse.Namespace, way: str, number: int, found: float | Served
) -> dict[str, Any]:
    """One measurement of one round."""
    figures = asdict(found) if isinstance(found, Served) else {"tokens_per_second": found}
    return {"way": way, "round": number, "shape": options.shape, "dtype": options.dtype, **figures}


def prepare(options: argparse.Namespace, folder: Path) -> GlmForCausalLM:
    """transformers' model, and in the folder what glmserve needs to have it or one like it."""
    config = make_config(SHAPES[options.shape])
    dtype = getattr(torch, options.dtype)
    if options.device == "cpu":
        model = make_model(config, torch.float32, torch.device("cpu")).to(dtype)
        model.save_pretrained(folder)
        return model
    config.save_pretrained(folder)
    return make_model(config, dtype, torch.device(options.device))


def server_arguments(options: argparse.Namespace, folder: str) -> list[str]:
    length = options.prompt_tokens + options.output_tokens
    largest = max(options.concurrency)
    arguments = [
        *("--checkpoint", folder, "--skip-tokenizer-init", "--dtype", options.dtype),
        *("--device", options.device, "--no-prefix-cache", "--max-model-len", str(length)),
    ]
    if options.device == "cpu":
        return [*arguments, "--threads", str(options.threads)]
    # transformers is on the same GPU: take no more memory than the requests need.
    tokens = (largest + 1) * (length + 128)
    return [
        *(*arguments, "--load-format", "dummy", "--kv-cache-tokens", str(tokens)),
        *("--max-batch-size", str(largest)),
    ]


def measure_round(
    options: argparse.Namespace, model: GlmForCausalLM, url: str, seed: int
) -> Iterator[tuple[str, float | Served]]:
    """Each way once, one after another, and what it is called."""
    rng = random.Random(seed)

    def prompts(count: int) -> list[list[int]]:
        """Fresh ones, that no cache knows."""
        length = options.prompt_tokens
        return [[rng.randrange(100, 2000) for _ in range(length)] for _ in range(count)]

    tokens = options.output_tokens
    many = [count for count in options.concurrency if count > 1]
    if seed == 0 and options.device == "cuda":
        generate_rate(model, prompts(1), min(tokens, 8))  # sets up libraries
    yield "transformers_one_by_one", generate_rate(model, prompts(_ONE_BY_ONE), tokens)
    yield "glmserve_one_by_one", complete(url, prompts(_ONE_BY_ONE), tokens, 1)
    for count in many:
        yield f"glmserve_together_{count}", complete(url, prompts(count), tokens, count)
    for count, attention in product(many, ATTENTIONS) if options.batching else []:
        name = f"transformers_continuous_{attention}_{count}"
        if reason := missing_attention(model, attention):
            print(f"{name} is left out: {reason}")
            continue
        try:
            yield name, batched_rate(model, prompts(count), tokens, attention)
        except Exception as error:  # its own, and whatever a kernel of its raises
            print(f"{name} failed: {error!r}")


def report(
    options: argparse.Namespace, rounds: list[Round], ceilings: Ceilings | None
) -> dict[str, Any]:
    """Medians over the rounds, and ratios taken within each round, as far as they have come."""
    names = list(rounds[0])
    figures: dict[str, Any] = {
        name: round(median(_rate(r[name]) for r in rounds if name in r), 1) for name in names
    }
    for name in names:
        if name.startswith("glmserve"):
            figures[f"ratio_{name}"] = _ratios(rounds, name, "transformers_one_by_one")
        for attention in ATTENTIONS:
            way = f"continuous_{attention}"
            batched = name.replace("glmserve_together", f"transformers_{way}")
            if batched != name and batched in names:
                figures[f"ratio_{name}_over_{way}"] = _ratios(rounds, name, batched)
    figures["latency"] = {
        name: _latency(options, name, [r[name] for r in rounds if name in r], ceilings)
        for name in names
        if name.startswith("glmserve")
    }
    if ceilings is not None:
        figures["ceilings"] = ceilings._asdict()
        figures["weights"] = "random; those of glmserve and of transformers are not the same"
    kept = ("device", "shape", "dtype", "concurrency", "prompt_tokens", "output_tokens", "threads")
    figures["settings"] = {key: getattr(options, key) for key in kept}
    return figures


def _rate(found: float | Served) -> float:
    return found.tokens_per_second if isinstance(found, Served) else found


def _ratios(rounds: list[Round], name: str, base: str) -> dict[str, float]:
    ratios = sorted(_rate(r[name]) / _rate(r[base]) for r in rounds if {name, base} <= r.keys())
    return {
        "median": round(median(ratios), 2),
        "lowest": round(ratios[0], 2),
        "highest": round(ratios[-1], 2),
    }


def _latency(
    options: argparse.Namespace,
    name: str,
    rounds: list[Any],
    ceilings: Ceilings | None,
) -> dict[str, float]:
    """Milliseconds, and how near the GPU's floor they are."""
    figures = {
        key: round(median(asdict(served)[key] for served in rounds), 2)
        for key in ("first_token_ms", "inter_token_ms")
    }
    if ceilings is None:
        return figures
    batch = 1 if name.endswith("one_by_one") else int(name.rsplit("_", 1)[1])
    return {**figures, **_floors(SHAPES[options.shape], options, batch, figures, rounds, ceilings)}


def _floors(
    shape: Shape,
    options: argparse.Namespace,
    batch: int,
    figures: dict[str, float],
    rounds: list[Served],
    ceilings: Ceilings,
) -> dict[str, float]:
    prompt, output = options.prompt_tokens, options.output_tokens
    step = 1e3 * decode_seconds(shape, batch, prompt + output // 2, ceilings)
    ideal = batch * output / request_seconds(shape, batch, prompt, output, ceilings)
    rate = median(served.tokens_per_second for served in rounds)
    return {
        "step_floor_ms": round(step, 3),
        "step_of_floor": round(step / figures["inter_token_ms"], 3),
        "floor_tokens_per_second": round(ideal, 1),
        "tokens_of_floor": round(rate / ideal, 3),
    }


if __name__ == "__main__":
    main()
