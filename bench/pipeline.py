"""What stages gain and cost on this machine: one process, and a pipeline with one step and with as
many steps in flight as it has stages, in turn; and the time of a hand-over between two stages.

    python bench/pipeline.py --shape S --batch 1 2 8 --prompt-tokens 256 --output-tokens 32
    python bench/pipeline.py --hand-over

The weights are random. All three have the same cores; a stage of a CPU model has its part of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from glmserve.config import (
    ReportProgress,
    RunnerConfig,
    SchedulerConfig,
    SupervisionConfig,
    report_nothing,
)
from glmserve.contract.step import RunnerInfo
from glmserve.engine import Engine
from glmserve.evaluation.throughput import Timing, generate
from glmserve.executor import ProcessExecutor
from glmserve.request import SamplingParams
from step_floor import SHAPES, Shape

_HIDDEN_SIZE = 4096
_ROUNDS_OF_MESSAGES = 300


class OneStepAtATime(ProcessExecutor):
    """A pipeline in which only one stage computes at a time."""

    async def start(self, progress: ReportProgress) -> RunnerInfo:
        info = await super().start(progress)
        limits = msgspec.structs.replace(info.limits, steps_in_flight=1)
        return msgspec.structs.replace(info, limits=limits)


def main() -> None:
    options = read_options()
    if options.end is not None:
        exchange_messages(options.end, options.folder, options.by)
    elif options.hand_over:
        report_hand_overs()
    else:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(make_config(SHAPES[options.shape])))
            asyncio.run(compare(options, folder))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--output-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hand-over", action="store_true", help="time hand-overs, nothing else")
    parser.add_argument("--end", type=int, choices=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--by", help=argparse.SUPPRESS)
    return parser.parse_args()


async def compare(options: argparse.Namespace, checkpoint: str) -> None:
    """Print tokens per second of prompts and of further tokens, and ratios to one process."""
    config = RunnerConfig(checkpoint=checkpoint, load_format="dummy", dtype=options.dtype)
    count, supervision = options.stages, SupervisionConfig()
    stages = msgspec.structs.replace(config, pipeline_parallel_size=count)
    executors = {
        "one process": ProcessExecutor(config, supervision),
        f"{count} stages, 1 step": OneStepAtATime(stages, supervision),
        f"{count} stages, {count} steps": ProcessExecutor(stages, supervision),
    }
    async with AsyncExitStack() as stack:
        engines = {}
        for name, executor in executors.items():
            engine = Engine(executor, SchedulerConfig(), hash_key=b"key")
            stack.push_async_callback(engine.close)
            await engine.start(report_nothing)
            engines[name] = engine
        print(f"{'batch':>5}{'prompt tokens/s':>17}{'ratio':>7}{'tokens/s':>10}{'ratio':>7}")
        for batch in options.batch:
            await compare_batch(options, batch, engines)


async def compare_batch(
    options: argparse.Namespace, batch: int, engines: dict[str, Engine]
) -> None:
    found: dict[str, list[Timing]] = {name: [] for name in engines}
    for number in range(options.rounds + 1):
        rng = random.Random(1000 * batch + number)  # prompts that no prefix cache has seen
        prompts = [
            [rng.randrange(100, 1000) for _ in range(options.prompt_tokens)] for _ in range(batch)
        ]
        params = SamplingParams(max_tokens=options.output_tokens)
        for name, engine in engines.items():
            timing = await generate(engine, prompts, params, lambda *_: None)
            if number:  # the first round warms up
                found[name].append(timing)
    first = next(iter(found.values()))
    for name, timings in found.items():
        prompts_ratio = median(
            b.base_seconds / t.base_seconds for t, b in zip(timings, first, strict=True)
        )
        ratio = median(
            b.incremental_seconds / t.incremental_seconds
            for t, b in zip(timings, first, strict=True)
        )
        prompt_rate = median(t.prompt_tokens / t.base_seconds for t in timings)
        rate = median((t.output_tokens - batch) / t.incremental_seconds for t in timings)
        print(
            f"{batch:5}{prompt_rate:17.1f}{prompts_ratio:7.2f}{rate:10.1f}{ratio:7.2f}  {name}",
            flush=True,
        )


def make_config(shape: Shape) -> dict[str, object]:
    """A config.json of ChatGLM2's blocks."""
    return {
        "model_type": "chatglm",
        "num_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "multi_query_attention": True,
        "multi_query_group_num": shape.kv_heads,
        "kv_channels": shape.head_dim,
        "ffn_hidden_size": shape.ffn,
        "padded_vocab_size": shape.vocab,
        "seq_length": 4096,
        "add_qkv_bias": True,
        "add_bias_linear": False,
        "rmsnorm": True,
        "layernorm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": False,
        "post_layer_norm": True,
        "torch_dtype": "bfloat16",
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def report_hand_overs() -> None:
    """Print the time from the call of `send` in one process to the return of `receive` in the
    other: half a way there and back, medians."""
    for by in ("shared memory", "gloo"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--folder", folder, "--by", by]
            other = subprocess.Popen([*command, "--end", "1"])
            subprocess.run([*command, "--end", "0"], check=True)
            other.wait(60)


def exchange_messages(end: int, folder: Path, by: str) -> None:
    """Send hidden states of some tokens there and back."""
    import torch

    from glmserve.contract.shard import Group, Shard, Stage
    from glmserve.ops.shared_collectives import SharedMemory
    from glmserve.ops.torch_collectives import join_by_gloo
    from glmserve_cpu_kernels.library import load

    torch.set_num_threads(1)

    def join(path: Path, number: int) -> Any:
        place = Group(Shard(), str(path), Stage(number, 2))
        return join_by_gloo(place) if by == "gloo" else SharedMemory(place, load())

    there, back = join(folder / "there", end), join(folder / "back", 1 - end)
    for tokens in (1, 16, 512):
        x = torch.ones((2, tokens, _HIDDEN_SIZE), dtype=torch.bfloat16)
        times = []
        for _ in range(_ROUNDS_OF_MESSAGES):
            start = time.perf_counter()
            if end == 0:
                there.send(x)
                back.receive(torch.empty_like(x))
            else:
                back.send(there.receive(torch.empty_like(x)))
            times.append((time.perf_counter() - start) / 2)
        if end == 0:
            print(f"{by}: {tokens} tokens of {_HIDDEN_SIZE}: {1e6 * median(times):.0f} µs")
    there.smallest(0)  # an end that is through stays until the other is


if __name__ == "__main__":
    main()
