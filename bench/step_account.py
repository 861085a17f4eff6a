"""Where the time of a CPU's decode steps goes, phase by phase, against what the CPU can do.

    python bench/step_account.py --shape S --batch 1 4 16 64
    python bench/step_account.py --shape S --batch 16 --quantization w8a8 --threads 1

The runner is in this process, with random weights and a scheduler that plans its steps. Every call
into the compiled kernels is timed. A phase's floor is the larger of its bytes over the bandwidth
and its operations over the rate, both measured in this run. "python" is what the runner does
between calls; "plan" is the scheduler, and "wire" the encoding and decoding of a step and its
output, which the server and its worker do besides. With one thread its CPU time is taken, which
other work on the machine disturbs least. Medians of steps.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from glmserve.process.torch_environment import prepare_for_torch

prepare_for_torch()  # else torch's threads wait busily, where ours compute

import torch  # noqa: E402

from cpu_ceilings import Clock, CpuCeilings, measure  # noqa: E402
from glmserve.config import RunnerConfig, SchedulerConfig, report_nothing  # noqa: E402
from glmserve.contract.step import Runner, StepInput, StepOutput  # noqa: E402
from glmserve.contract.wire import (  # noqa: E402
    HEADER_SIZE,
    decode_executor_message,
    decode_worker_message,
    encode_frame,
)
from glmserve.devices.cpu import CpuDevice  # noqa: E402
from glmserve.request import Request, SamplingParams  # noqa: E402
from glmserve.scheduler import Scheduler  # noqa: E402
from glmserve_cpu_kernels.library import CLinear, load  # noqa: E402
from pipeline import make_config  # noqa: E402
from step_floor import SHAPES, Shape  # noqa: E402

_WARM_UP = 4
"""Steps that do not count."""
_WEIGHT_BYTES = {"w8a8": 1.0, "int8": 1.0, "w4a8": 0.5, "int4": 0.5}

Seconds = dict[str, float]
"""By phase, of one step."""


class TimedKernels:
    """Stands for the compiled library, and counts the time of each call by phase.

    Args:
        names: phases of matrix products, by outputs and inputs.
    """

    def __init__(
        self, functions: ctypes.CDLL, clock: Clock, names: dict[tuple[int, int], str]
    ) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._functions = functions
        self._clock = clock
        self._names = names

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._functions, name)
        phase = name.removeprefix("glm_")

        def call(*arguments: Any) -> Any:
            start = self._clock()
            result = function(*arguments)
            took = self._clock() - start
            is_product = phase in ("linear", "most_likely")
            self.seconds[self._product(arguments[0]) if is_product else phase] += took
            return result

        setattr(self, name, call)
        return call

    def _product(self, address: int) -> str:
        linear = CLinear.from_address(address)
        return self._names.get((linear.outputs, linear.inputs), "product")


def product_names(shape: Shape) -> dict[tuple[int, int], str]:
    """The phases of matrix products by outputs and inputs."""
    heads = shape.heads * shape.head_dim
    return {
        (heads + 2 * shape.kv_heads * shape.head_dim, shape.hidden): "qkv",
        (shape.hidden, heads): "attention output",
        (2 * shape.ffn, shape.hidden): "gate and up",
        (shape.hidden, shape.ffn): "down",
        (shape.vocab, shape.hidden): "logits",
    }


def floors(
    shape: Shape, batch: int, context: int, ceilings: CpuCeilings, quantization: str | None
) -> Seconds:
    """The least time of products and attention in a step."""
    bytes_each = _WEIGHT_BYTES.get(quantization or "", 2.0)
    rate = ceilings.int8_operations if quantization in ("w8a8", "w4a8") else ceilings.bf16_flops
    found = {}
    for (outputs, inputs), name in product_names(shape).items():
        numbers = outputs * inputs * (1 if name == "logits" else shape.layers)
        size = shape.head_bytes(bytes_each) if name == "logits" else numbers * bytes_each
        found[name] = max(size / ceilings.read_bytes, 2 * batch * numbers / rate)
    cached = 2 * batch * context * shape.token_numbers
    pairs = batch * context * shape.pair_flops
    found["attend"] = max(cached / ceilings.read_bytes, pairs / ceilings.bf16_flops)
    return found


def decode_steps(
    runner: Runner, timed: TimedKernels, options: argparse.Namespace, batch: int, clock: Clock
) -> list[Seconds]:
    """The account of each decode step of a full batch."""
    rng = random.Random(0)
    scheduler = Scheduler(
        SchedulerConfig(max_batch_size=batch, prefix_cache=False), runner.info.limits, hash_key=b"k"
    )
    params = SamplingParams(max_tokens=options.steps + _WARM_UP + batch)
    for number in range(batch):
        prompt = [rng.randrange(100, 1000) for _ in range(options.prompt_tokens)]
        scheduler.add(Request(number, prompt, params))
    accounts: list[Seconds] = []
    while len(accounts) < options.steps + _WARM_UP:
        start = clock()
        step = scheduler.schedule()
        assert step is not None
        planned = clock() - start
        timed.seconds.clear()
        start = clock()
        output = runner.execute(step, list)
        executed = clock() - start
        account = dict(timed.seconds)
        account["python"] = executed - sum(account.values())
        start = clock()
        scheduler.update(output)
        account["plan"] = planned + clock() - start
        account["wire"] = _wire_seconds(step, output, clock)
        if len(step.sequences) == batch and all(len(s.token_ids) == 1 for s in step.sequences):
            accounts.append(account)
    return accounts[_WARM_UP:]


def _wire_seconds(step: StepInput, output: StepOutput, clock: Clock) -> float:
    start = clock()
    decode_executor_message(encode_frame(step)[HEADER_SIZE:])
    decode_worker_message(encode_frame(output)[HEADER_SIZE:])
    return clock() - start


def report(accounts: list[Seconds], least: Seconds, batch: int) -> None:
    """Print the median of each phase, and its floor."""
    phases = {name: median(account.get(name, 0.0) for account in accounts) for name in accounts[0]}
    total = sum(phases.values())
    print(f"\n{batch} at once: {1000 * total:.2f} ms a step, {batch / total:.0f} tokens/s")
    print(f"{'phase':<18}{'ms':>8}{'share':>8}{'floor':>8}{'reached':>9}")
    for name, seconds in sorted(phases.items(), key=lambda item: -item[1]):
        floor = least.get(name)
        of_floor = "" if floor is None else f"{1000 * floor:8.3f}{floor / seconds:9.0%}"
        print(f"{name:<18}{1000 * seconds:8.3f}{seconds / total:8.1%}{of_floor}")
    print(
        f"{'all':<18}{1000 * total:8.3f}{1:8.0%}{1000 * sum(least.values()):8.3f}"
        f"{sum(least.values()) / total:9.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization", choices=["int8", "int4", "w8a8", "w4a8"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    clock: Clock = time.thread_time if options.threads == 1 else time.perf_counter
    torch.set_num_threads(options.threads)
    ceilings = measure(clock=clock)
    print(
        f"{ceilings.read_bytes / 1e9:.1f} GB/s, {ceilings.bf16_flops / 1e9:.0f} bfloat16 GFLOP/s, "
        f"{ceilings.int8_operations / 1e9:.0f} int8 GOP/s"
    )
    shape = SHAPES[options.shape]
    library = load()
    timed = TimedKernels(library.functions, clock, product_names(shape))
    library.functions = timed
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(make_config(shape)))
        config = RunnerConfig(
            checkpoint=folder,
            load_format="dummy",
            dtype=options.dtype,
            quantization=options.quantization,
            threads=options.threads,
            kv_cache_tokens=max(options.batch) * (options.prompt_tokens + options.steps + 100),
        )
        runner = CpuDevice().create_runner(config, report_nothing)
    for batch in options.batch:
        accounts = decode_steps(runner, timed, options, batch, clock)
        context = options.prompt_tokens + options.steps // 2
        report(accounts, floors(shape, batch, context, ceilings, options.quantization), batch)
    runner.close()


if __name__ == "__main__":
    main()
