"""Lets a server's runner start and serve on a chip that is not there, and watches it compile.

    python tests/kernel_ops/compile_server.py sm_90

Every tensor is `meta`: shapes without contents. What a step launches is compiled instead, so this
shows exactly which kernels a server needs; after its start none may be added, whatever comes.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from compiler import CHIPS, compiling_for
from torch import Tensor

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import SamplingInput, ScheduledSequence, ScoreInput, StepInput
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.ops.uploads import DirectUploads
from glmserve.runner.adapters import EMPTY_ADAPTER
from glmserve.runner.gpu_loading import load_gpu_runner
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.torch_runner import TorchTarget

CHATGLM2_6B = {
    "model_type": "chatglm",
    "add_qkv_bias": True,
    "ffn_hidden_size": 13696,
    "hidden_size": 4096,
    "kv_channels": 128,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 2,  # of 28, all alike
    "padded_vocab_size": 65024,
    "seq_length": 32768,
    "torch_dtype": "float16",
    "eos_token_id": 2,
}
META = torch.device("meta")
CAPABILITIES = {"sm_80": (8, 0), "sm_90": (9, 0), "gfx942": None}
CONTEXT = 32768
BLOCK_SIZE = 64
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"kv_cache_dtype": "int8"},
    {"quantization": "int4"},
    {"max_adapters": 4},
)
OPTIONS_OF_FLOAT8: tuple[dict[str, Any], ...] = ({"quantization": "fp8"}, {"kv_cache_dtype": "fp8"})
"""For chips that compute with it."""
FEW_ROWS = (1, 15, 16, 17, 32, 33, 63, 64)
"""About the edges of classes of rows: prompts and batches of decodes."""


class AbsentAccelerator:
    device = META

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        return lambda: [torch.zeros(t.shape, dtype=t.dtype) for t in tensors]

    def __init__(self) -> None:
        self.graphs = 0
        """How many were recorded."""

    def capture(self, work: Callable[[], None]) -> Any:
        self.graphs += 1
        work()
        return AbsentGraph()

    def free_memory(self) -> int:
        return 100 * 2**30

    def total_memory(self) -> int:
        return 128 * 2**30


class AbsentGraph:
    def replay(self) -> None:
        """Launches nothing new."""


class Prepared(NamedTuple):
    """What a runner is loaded from."""

    config: RunnerConfig
    model: ModelConfig
    target: TorchTarget
    chip: str

    def load(self, accelerator: AbsentAccelerator) -> GpuRunner:
        return load_gpu_runner(
            self.config, self.model, self.target, accelerator, self.chip, BLOCK_SIZE, report_nothing
        )


def prepare(chip: str, dtype: torch.dtype = torch.float16, **options: Any) -> Prepared:
    """A ChatGLM2-6B with two layers on a chip, with options of RunnerConfig."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CHATGLM2_6B))
        config = RunnerConfig(checkpoint=folder, load_format="dummy", **options)
        model = read_model_config(Path(folder))
    gpu = Gpu(DirectUploads(META), chip, CAPABILITIES[chip], multiprocessors=132)
    ops = make_ops(config, model, dtype, BLOCK_SIZE, gpu)
    target = TorchTarget(META, "absent", dtype, ops, config.quantization)
    return Prepared(config, model, target, chip)


def start(chip: str, dtype: torch.dtype = torch.float16, **options: Any) -> GpuRunner:
    """A runner of that model: all that its start launches has been launched."""
    return prepare(chip, dtype, **options).load(AbsentAccelerator())


def serve(runner: GpuRunner, steps: int, seed: int = 0) -> None:
    """Execute random steps: any mix of lengths, contexts and wishes. Then some of few rows."""
    rng = random.Random(seed)
    adapters = [NO_ADAPTER, EMPTY_ADAPTER] if runner.info.limits.max_adapters else [NO_ADAPTER]
    for number in range(steps):
        count = rng.randint(1, 64)
        budget = runner.info.limits.max_step_tokens
        sequences = []
        for i in range(count):
            room = budget - (count - i - 1)
            tokens = 1 if rng.random() < 0.7 else rng.randint(1, max(1, room))
            tokens = min(tokens, room)
            budget -= tokens
            start = rng.choice([0, rng.randint(0, CONTEXT - tokens)])
            sequence = _sequence(i, tokens, start, rng)
            adapter = rng.choice(adapters)
            sequences.append(msgspec.structs.replace(sequence, adapter_id=adapter))
        runner.execute(StepInput(number, sequences))()
    for rows in FEW_ROWS:
        scored = ScoreInput([0] * (rows - 1), 3)
        prompt = ScheduledSequence(0, [0] * rows, 0, bytes(4), SamplingInput(), scored)
        runner.execute(StepInput(0, [prompt]))()
        decodes = [
            ScheduledSequence(i, [0], 0, bytes(4), SamplingInput())
            for i in range(min(rows, runner.info.limits.max_sequences))
        ]
        runner.execute(StepInput(0, decodes))()


def _sequence(request_id: int, tokens: int, start: int, rng: random.Random) -> ScheduledSequence:
    blocks = np.zeros(-(-(start + tokens) // 64), dtype=np.int32).tobytes()
    history = np.zeros(rng.randint(2, 500), dtype=np.int32).tobytes()
    sampling = rng.choice(
        [
            None,
            SamplingInput(),
            SamplingInput(
                noise_key=rng.getrandbits(64),
                sampling=Sampling(temperature=0.8, top_p=rng.random()),
            ),
            SamplingInput(sampling=Sampling(temperature=1.0, top_k=rng.randint(1, 300), min_p=0.1)),
            SamplingInput(
                history=history, prompt_length=1, sampling=Sampling(repetition_penalty=1.1)
            ),
            SamplingInput(
                banned=(2,),
                top_logprobs=20,
                sampling=Sampling(temperature=0.5, logit_bias={5: 1.0}),
            ),
        ]
    )
    score = ScoreInput([0] * (tokens - 1), 3) if rng.random() < 0.05 else None
    return ScheduledSequence(request_id, [0] * tokens, start, blocks, sampling, score)


def main() -> int:
    chip = sys.argv[1]
    added = 0
    for options in OPTIONS + (OPTIONS_OF_FLOAT8 if chip == "sm_90" else ()):
        with compiling_for(CHIPS[chip].target) as compiled, torch.inference_mode():
            runner = start(chip, **options)
            at_start = len(compiled)
            serve(runner, 60)
            for kernel in compiled[at_start:]:
                print(f"compiled while serving: {kernel.metadata.name}", file=sys.stderr)
            added += len(compiled) - at_start
            print(f"{chip}, options {options}: {at_start} kernels compiled at start")
    return 1 if added else 0


if __name__ == "__main__":
    sys.exit(main())
