"""glmserve's own CPU kernels against torch's, in turn, and against what the CPU can do.

    python bench/cpu_kernels.py [--shape 11264x2048] [--rows 1 4 16 512] [--threads 1]

Matrix products by number of rows, in every format of weights, then attention. Weights follow one
another so that no cache holds them. With one thread its CPU time is taken, which other work on the
machine disturbs least; the best of several tries counts. The floor of a product is the larger of
its weights' bytes over the bandwidth and its operations over the rate, both measured in this run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cpu_ceilings import Clock, CpuCeilings, measure
from glmserve.config import RunnerConfig
from glmserve.contract.step import ScheduledSequence, StepInput
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.attention.kv_store import make_store
from glmserve.ops.attention.native_cpu import NativeCpuAttention
from glmserve.ops.attention.sdpa import CpuSdpaAttention
from glmserve.ops.base import AnyOps
from glmserve.ops.batch import Batch
from glmserve.ops.cpu.native_ops import NativeCpuOps
from glmserve.ops.cpu.select_ops import native_kernels
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.ops.linear.quantized import QuantizedWeight, quantize
from glmserve.runner.batch import build_batch

_HOST = torch.device("cpu")
_BEYOND_CACHES = 2**27
"""Bytes of weights that follow one another."""
_BLOCK = 32
_DTYPE = torch.bfloat16


class Format(NamedTuple):
    """A way to keep a weight [N, K]."""

    name: str
    make: Callable[[Tensor], Tensor | QuantizedWeight]
    bytes_per_weight: float
    is_integer: bool = False
    has_torch: bool = True
    """Whether torch can multiply with it too."""


def _rounded(
    bits: int, group: int | None, activations: bool
) -> Callable[[Tensor], QuantizedWeight]:
    def make(weight: Tensor) -> QuantizedWeight:
        rounded = quantize(weight, 8 if bits == 8 else 4, group)
        return replace(rounded, activation_bits=8 if activations else None)

    return make


FORMATS = (
    Format("bfloat16", lambda weight: weight, 2),
    Format("int8", _rounded(8, None, activations=False), 1),
    Format("w8a8", _rounded(8, None, activations=True), 1, is_integer=True),
    Format("int4", _rounded(4, 64, activations=False), 0.5 + 2 / 64),
    Format("w4a8", _rounded(4, 64, activations=True), 0.5 + 2 / 64, True, has_torch=False),
)


def main() -> int:
    options = parse_options()
    native = native_kernels(RunnerConfig(checkpoint=""))
    if native.library is None:
        print(f"cpu_kernels.py: error: {native.reason}", file=sys.stderr)
        return 1
    torch.set_num_threads(options.threads)
    native.library.set_threads(options.threads)
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    ceilings = measure(clock=clock)
    print(
        f"{options.threads} threads, {native.library.instruction_set} kernels: read "
        f"{ceilings.read_bytes / 1e9:.1f} GB/s, {ceilings.bf16_flops / 1e9:.0f} GFLOP/s in bfloat16"
    )
    no_attention = NativeCpuAttention(1, _BLOCK, _DTYPE, "auto", native.library)
    ours = NativeCpuOps(no_attention, _DTYPE, native.library)
    outputs, inputs = (int(size) for size in options.shape.split("x"))
    with torch.inference_mode():
        for form in FORMATS:
            weight = torch.randn(outputs, inputs).mul_(0.02).to(_DTYPE)
            both = [ours, TorchCpuOps(no_attention, _DTYPE)][: 1 + form.has_torch]
            compare_products(form, weight, options.rows, both, clock, ceilings)
        for case in ATTENTION:
            compare_attention(case, ours, clock)
    return 0


def compare_products(
    form: Format,
    weight: Tensor,
    rows: Sequence[int],
    both: Sequence[AnyOps],
    clock: Clock,
    ceilings: CpuCeilings,
) -> None:
    """Print a line for each number of rows."""
    copies = max(2, int(_BEYOND_CACHES / (weight.numel() * form.bytes_per_weight)))
    stored = form.make(weight)
    packed = [[ops.pack_linear(stored) for _ in range(copies)] for ops in both]
    for count in rows:
        x = torch.randn(count, weight.shape[1]).to(_DTYPE)
        products = [_all(ops, x, weights) for ops, weights in zip(both, packed, strict=True)]
        ours, *theirs = (seconds / copies for seconds in best_in_turn(products, clock))
        rate = ceilings.bf16_flops * (2 if form.is_integer else 1)
        reading = weight.numel() * form.bytes_per_weight / ceilings.read_bytes
        floor = max(reading, 2 * weight.numel() * count / rate)
        others = "".join(f"; torch {t * 1e3:.2f} ms, {t / ours:.2f} times as long" for t in theirs)
        print(
            f"{form.name:9}{count:4} rows {ours * 1e3:8.2f} ms, {floor / ours:.2f} of the floor"
            f"{others}"
        )


def _all(ops: AnyOps, x: Tensor, weights: list[object]) -> Callable[[], None]:
    def work() -> None:
        for weight in weights:
            ops.linear(x, weight)

    return work


class AttentionCase(NamedTuple):
    """Sequences of (tokens before, new tokens), 32 query heads of 128 over 2 key/value heads."""

    name: str
    sequences: list[tuple[int, int]]


ATTENTION = (
    AttentionCase("16 decodes at 1024", [(1023, 1)] * 16),
    AttentionCase("1 decode at 8192", [(8191, 1)]),
    AttentionCase("512 tokens behind 1536", [(1536, 512)]),
)
_HEADS, _KV_HEADS, _DIM = 32, 2, 128


def compare_attention(case: AttentionCase, ours: NativeCpuOps, clock: Clock) -> None:
    """Print a line."""
    store = make_store("auto", _DTYPE)
    backends: list[AnyAttentionBackend] = [
        NativeCpuAttention(_KV_HEADS, _BLOCK, _DTYPE, "auto", ours.library),
        CpuSdpaAttention(_KV_HEADS, _DTYPE, _HOST, _BLOCK, store),
    ]
    batch = _batch(case)
    qkv = torch.randn(len(batch.input_ids), _HEADS + 2 * _KV_HEADS, _DIM).to(_DTYPE)
    blocks = int(batch.block_tables.max()) + 1
    runs = [_attention(backend, batch, qkv, blocks) for backend in backends]
    mine, theirs = best_in_turn(runs, clock)
    print(
        f"attention, {case.name}: {mine * 1e3:.2f} ms; torch {theirs * 1e3:.2f} ms, "
        f"{theirs / mine:.2f} times as long"
    )


def _batch(case: AttentionCase) -> Batch:
    longest = max(before + new for before, new in case.sequences)
    each = -(-longest // _BLOCK)
    order = np.random.default_rng(0).permutation(each * len(case.sequences)).astype(np.int32)
    sequences = [
        ScheduledSequence(i, [0] * new, before, order[i * each : (i + 1) * each].tobytes(), None)
        for i, (before, new) in enumerate(case.sequences)
    ]
    return build_batch(StepInput(0, sequences), _BLOCK)


def _attention(
    backend: AnyAttentionBackend, batch: Batch, qkv: Tensor, blocks: int
) -> Callable[[], object]:
    cache = backend.allocate(1, blocks, _DIM)[0]
    plan = backend.plan(batch, cache)
    backend.write(qkv[:, _HEADS:], cache, plan)
    return lambda: backend.run(qkv, cache, plan)


def best_in_turn(work: Sequence[Callable[[], object]], clock: Clock, tries: int = 9) -> list[float]:
    """The shortest time of each, taken in turn."""
    best = [float("inf")] * len(work)
    for _ in range(tries):
        for i, one in enumerate(work):
            start = clock()
            one()
            best[i] = min(best[i], clock() - start)
    return best


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="11264x2048", metavar="OUTPUTSxINPUTS")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 512])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
