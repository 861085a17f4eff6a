"""Prints what the CPU kernels of this machine compute, so that two machines can be compared.

    python results.py SET ...

JSON: for each instruction set the hashes of the kernels' results by name, and glm-tiny's greedy
answers by number format.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import glmserve
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.devices.registry import select_device
from glmserve.ops.linear.quantized import quantize
from glmserve_cpu_kernels import elementwise
from glmserve_cpu_kernels.library import Library, load
from glmserve_cpu_kernels.linear import pack_codes, pack_floats

PROMPT = [5, 100, 700, 45, 9, 1200, 33, 8]
ANSWER_TOKENS = 24
FORMATS = (("float32", None), ("float32", "w8a8"), ("float32", "int4"), ("bfloat16", None))
ROWS, COLUMNS, OUTPUTS = 7, 200, 70
"""No multiples of a tile."""


def numbers(*shape: int, seed: int) -> Tensor:
    """The same on every machine: torch's generators are not."""
    drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(drawn)


def kernel_results(library: Library) -> Iterator[tuple[str, Tensor]]:
    x, weight = numbers(ROWS, COLUMNS, seed=1), numbers(OUTPUTS, COLUMNS, seed=2)
    yield "float32", pack_floats(library, weight)(x)
    yield "bfloat16", pack_floats(library, weight.bfloat16())(x.bfloat16())
    for bits in (8, 4):
        coded = quantize(weight, bits)
        for activation_bits in (8, 15, 22):
            packed = pack_codes(library, coded.codes, coded.scales, bits, activation_bits)
            yield f"{bits} bits, activations of {activation_bits}", packed(x)
    yield "rms_norm", elementwise.rms_norm(library, None, x, numbers(COLUMNS, seed=3), 1e-5)
    yield "silu_and_mul", elementwise.silu_and_mul(library, x)
    yield "gelu", elementwise.gelu(library, x)


def answer(dtype: str, quantization: str | None, name: str) -> list[int]:
    folder = Path(glmserve.__file__).parent / "assets" / "glm-tiny"
    config = RunnerConfig(
        checkpoint=str(folder),
        device="cpu",
        dtype=dtype,
        quantization=quantization,
        max_model_len=256,
        kv_cache_tokens=1024,
        threads=1,
    )
    runner = select_device("cpu").create_runner(config, report_nothing)
    load().use(name)
    table = np.arange(8, dtype=np.int32).tobytes()
    found: list[int] = []
    new, start = PROMPT, 0
    for number in range(ANSWER_TOKENS):
        sequence = ScheduledSequence(0, new, start, table, SamplingInput())
        output = runner.execute(StepInput(number, [sequence]))
        start += len(new)
        new = [output.token_ids[0]]
        found += new
    runner.close()
    return found


def main() -> None:
    # Before torch 2.11 it had no such function; there is no older one without CUDA for aarch64.
    vars(torch.cpu).setdefault("get_capabilities", dict)
    results = {}
    for name in sys.argv[1:]:
        library = load()
        library.use(name)
        hashes = {
            kind: hashlib.sha256(result.view(torch.uint8).numpy().tobytes()).hexdigest()
            for kind, result in kernel_results(library)
        }
        answers = {f"{dtype} {q}": answer(dtype, q, name) for dtype, q in FORMATS}
        results[name] = {"kernels": hashes, "answers": answers}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
