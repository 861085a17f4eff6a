"""Host time of a GPU runner's steps, without a GPU: `execute()` up to where the driver is called.

    python bench/host_time.py

Launches and replays of graphs do nothing, and copies are copies within the host's memory; planning,
uploads' staging, and Triton's own work for each launch are real. The model has one small layer, but
the vocabulary, the heads and the context of a ChatGLM2-6B, and the chip is an H200 with 132
multiprocessors. On a GPU each of torch's own launches and copies takes some microseconds more; the
last column counts them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["TRITON_INTERPRET"] = "0"  # before triton is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kernel_ops"))

import numpy as np
import torch
from absent_gpu import launching_nothing
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.model_config import read_model_config
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.ops.uploads import QueuedUploads
from glmserve.runner.gpu_loading import load_gpu_runner
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.torch_runner import TorchTarget

HOST = torch.device("cpu")
CONFIG = {
    "model_type": "chatglm",
    "add_qkv_bias": True,
    "ffn_hidden_size": 256,
    "hidden_size": 512,
    "kv_channels": 16,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 1,
    "padded_vocab_size": 65024,
    "seq_length": 32768,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}
BLOCK_SIZE = 64
GREEDY = SamplingInput()
NUCLEUS = SamplingInput(noise_key=7, sampling=Sampling(temperature=0.8, top_p=0.9))


class HostMemory:
    """Host memory in the place of page-locked memory; nothing is ever under way."""

    def allocate(self, num_bytes: int) -> Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8)

    def mark(self) -> Callable[[], None]:
        return lambda: None


class StubbedAccelerator:
    """Graphs that do nothing."""

    device = HOST

    def __init__(self) -> None:
        self.graphs = 0
        """How many were recorded."""

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        copies = [tensor.clone() for tensor in tensors]
        return lambda: copies

    def capture(self, work: Callable[[], None]) -> StubbedAccelerator:
        self.graphs += 1
        work()
        return self

    def replay(self) -> None:
        """Launches nothing."""

    def free_memory(self) -> int:
        return 2**32

    def total_memory(self) -> int:
        return 2**33


@contextlib.contextmanager
def stubbed_runner(accelerator: StubbedAccelerator, **options: Any) -> Iterator[GpuRunner]:
    """A runner of CONFIG on an absent H200, with options of RunnerConfig."""
    defaults = {"max_batch_size": 64, "kv_cache_tokens": 2**20, "max_step_tokens": 2048}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        config = RunnerConfig(checkpoint=folder, load_format="dummy", **{**defaults, **options})
        model = read_model_config(Path(folder))
        uploads = QueuedUploads(HOST, HostMemory())
        gpu = Gpu(uploads, "sm_90", (9, 0), multiprocessors=132)
        ops = make_ops(config, model, torch.bfloat16, BLOCK_SIZE, gpu)
        target = TorchTarget(HOST, "absent", torch.bfloat16, ops, config.quantization)
        yield load_gpu_runner(
            config, model, target, accelerator, gpu.chip, BLOCK_SIZE, report_nothing
        )


class Row(NamedTuple):
    """A kind of step."""

    name: str
    decodes: int
    chunks: tuple[int, ...]
    """Lengths of the prompts' chunks."""
    sampling: SamplingInput

    def step(self, context: int) -> StepInput:
        """The step, its decodes at `context`."""
        tables = np.arange(-(-(context + 512) // BLOCK_SIZE), dtype=np.int32).tobytes()
        decodes = [
            ScheduledSequence(i, [5], context, tables, self.sampling) for i in range(self.decodes)
        ]
        chunks = [
            ScheduledSequence(1000 + i, [5] * count, 0, tables, self.sampling)
            for i, count in enumerate(self.chunks)
        ]
        return StepInput(0, decodes + chunks)


ROWS = (
    Row("decode, batch 1", 1, (), GREEDY),
    Row("decode, batch 16", 16, (), GREEDY),
    Row("decode, batch 64", 64, (), GREEDY),
    Row("decode, batch 64, top-p", 64, (), NUCLEUS),
    Row("decode, batch 256", 256, (), GREEDY),
    Row("decode, batch 256, top-p", 256, (), NUCLEUS),
    Row("prompt of 128", 0, (128,), GREEDY),
    Row("63 decodes + prompt of 448", 63, (448,), GREEDY),
    Row("60 decodes + 4 prompts of 110", 60, (110,) * 4, GREEDY),
    Row("60 decodes + 4 prompts of 110, top-p", 60, (110,) * 4, NUCLEUS),
)


class _Calls(TorchDispatchMode):
    """Counts torch's own operations that would queue work on a GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        views = ("view", "slice", "select", "detach", "alias", "empty", "_unsafe", "as_strided")
        self.count += not name.startswith(views)
        return func(*args, **(kwargs or {}))


def measure(runner: GpuRunner, step: StepInput, rounds: int) -> list[float]:
    """Seconds of each `execute`; outputs are awaited outside."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        wait = runner.execute(step)
        seconds.append(time.perf_counter() - begin)
        wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--context", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    target = GPUTarget("cuda", 90, 32)
    with (
        launching_nothing(target),
        stubbed_runner(StubbedAccelerator(), max_batch_size=256) as runner,
    ):
        gc.freeze()
        print(f"{'execute(), launches stubbed':42}{'median us':>10}{'least us':>10}{'torch':>8}")
        for row in ROWS:
            step = row.step(options.context)
            with _Calls() as calls:
                runner.execute(step)()
            measure(runner, step, 10)
            found = measure(runner, step, options.rounds)
            median, least = statistics.median(found) * 1e6, min(found) * 1e6
            print(f"{row.name:42}{median:>10.0f}{least:>10.0f}{calls.count:>8}")


if __name__ == "__main__":
    main()
