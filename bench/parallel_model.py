"""A model of what ranks and stages give on hardware that was not measured: arithmetic, no run.

    python bench/parallel_model.py

Decode steps only. A step on one device takes what step_floor.py says for its ceilings, and `fixed`
seconds that no cut shortens: launches, and the work of the host. A rank of T has a T-th of every
weight, its query heads, and the key/value heads that these read. T ranks add up twice in each layer
and once for the embedding, and join the logits. A stage of P has a P-th of the layers and hands on
two numbers for each of a token's hidden ones; the last one has the output layer as well. P steps
are in flight, each with a P-th of the requests, so that a request gains a token in the time of P
steps of the slowest stage.

The model leaves out: that a smaller product reaches less of the ceilings, that transfers may
overlap with computing, prompts, and the server. So ratios are upper limits, and the absolute
numbers are floors. SETUPS names the source of each figure; "assumed" has none.
"""

from __future__ import annotations

from typing import NamedTuple

from gpu_ceilings import Ceilings
from step_floor import SHAPES, Shape, decode_seconds

_NUMBER = 2
"""Bytes of a weight, an activation, and a number of K and V: 16 bits everywhere."""


class Link(NamedTuple):
    """Between two devices of a setup."""

    latency: float
    """Seconds of a sum over ranks or a hand-over of a few bytes."""
    bytes_per_second: float
    """In one direction."""


class Setup(NamedTuple):
    """Equal devices with equal links."""

    name: str
    device: Ceilings
    fixed: float
    """Seconds of a step that no cut shortens; a stage has its part of them."""
    link: Link
    most: int
    """Devices."""


H200 = Setup(
    "H200 pairs or fours, NVLink",
    # Measured on an H200 by gpu_ceilings.py, 2026-10-28.
    Ceilings(copy_bytes=4.3e12, bf16_flops=788e12),
    # 10 kernels in each of 28 layers, 1 µs between two kernels of a graph: assumed.
    fixed=0.28e-3,
    # 6 µs: two H100 in an HGX, graphs, up to 64 KiB (github.com/NVIDIA/nccl/issues/1259). Bus
    # bandwidth of 365 GB/s for 2 to 8 H100 (github.com/NVIDIA/nccl/issues/1455). The same NVLink.
    link=Link(6e-6, 365e9),
    most=4,
)
DUO_300I = Setup(
    "the two chips of an Atlas 300I Duo",
    # Data sheet: 408 GB/s and 140 TFLOP/s in float16 for the card. Half of it for a chip, of which
    # 70 % are reached: assumed.
    Ceilings(copy_bytes=0.7 * 204e9, bf16_flops=0.7 * 70e12),
    fixed=1e-3,  # assumed
    link=Link(50e-6, 10e9),  # over PCIe 4.0 x16: assumed
    most=2,
)
SOCKETS = Setup(
    "two CPU sockets",
    # 12 channels of DDR5-4800 (data sheet: 460.8 GB/s) for a socket, 75 % of it reached: assumed.
    # 64 cores, each with the 0.19 TFLOP/s in bfloat16 of one busy Zen 4 core, as measured
    # (bench/results, 2026-11-21): that all reach it at once is assumed.
    Ceilings(copy_bytes=0.75 * 460.8e9, bf16_flops=64 * 0.19e12),
    fixed=0.5e-3,  # assumed
    # 30 µs: twice what a sum took within one socket (guide/parallel.md). 20 GB/s: assumed.
    link=Link(30e-6, 20e9),
    most=2,
)
SETUPS = (H200, DUO_300I, SOCKETS)

MODELS = {
    "ChatGLM2-6B": SHAPES["chatglm2-6b"],
    "GLM-4-9B": Shape(40, 4096, 32, 2, 128, 13696, 151552),
}


def alone_seconds(shape: Shape, batch: int, context: int, setup: Setup) -> float:
    """A decode step on one device."""
    return decode_seconds(shape, batch, context, setup.device) + setup.fixed


def tensor_seconds(shape: Shape, batch: int, context: int, setup: Setup, ranks: int) -> float:
    """A decode step of as many ranks."""
    part = shape._replace(
        heads=shape.heads // ranks,
        kv_heads=max(1, shape.kv_heads // ranks),
        ffn=shape.ffn // ranks,
        vocab=shape.vocab // ranks,
    )
    own = decode_seconds(part, batch, context, setup.device)
    return own + setup.fixed + collective_seconds(shape, batch, setup.link, ranks)


def collective_seconds(shape: Shape, batch: int, link: Link, ranks: int) -> float:
    """All sums of a step, and the join of its logits.

    A ring moves 2 (n-1)/n of the bytes of a sum over each link (github.com/NVIDIA/nccl-tests,
    doc/PERFORMANCE.md), and (n-1)/n of those of a join.
    """
    share = (ranks - 1) / ranks
    sums = 2 * shape.layers + 1
    one = link.latency + 2 * share * batch * shape.hidden * _NUMBER / link.bytes_per_second
    join = link.latency + share * batch * shape.vocab * 2 * _NUMBER / link.bytes_per_second
    return sums * one + join


def pipeline_seconds(shape: Shape, batch: int, context: int, setup: Setup, stages: int) -> float:
    """The time in which each of `batch` requests gains a token."""
    step = -(-batch // stages)
    if batch < stages:  # a request goes through one stage after the other, and others are idle
        hand_overs = (stages - 1) * hand_over_seconds(shape, step, setup.link)
        return alone_seconds(shape, step, context, setup) + hand_overs
    slowest = last_stage_seconds(shape, step, context, setup, stages)
    return stages * (slowest + hand_over_seconds(shape, step, setup.link))


def last_stage_seconds(shape: Shape, batch: int, context: int, setup: Setup, stages: int) -> float:
    """A step of the slowest stage, which has the output layer."""
    part = shape._replace(layers=-(-shape.layers // stages))
    return decode_seconds(part, batch, context, setup.device) + setup.fixed / stages


def hand_over_seconds(shape: Shape, batch: int, link: Link) -> float:
    """Two numbers for each hidden one of each request."""
    return link.latency + 2 * batch * shape.hidden * _NUMBER / link.bytes_per_second


def main() -> None:
    context = 2048
    print(f"milliseconds until each request has its next token, at {context} tokens of context")
    for setup in SETUPS:
        print(f"\n{setup.name}\n{'model':13}{'batch':>6}{'alone':>9}", end="")
        sizes = [size for size in (2, 4) if size <= setup.most]
        ways = [f"TP {size}" for size in sizes] + ["PP 2"]
        print("".join(f"{way:>9}{'gain':>6}" for way in ways) + f"{'sums TP 2':>11}")
        for name, shape in MODELS.items():
            for batch in (1, 16, 64):
                alone = alone_seconds(shape, batch, context, setup)
                found = [tensor_seconds(shape, batch, context, setup, size) for size in sizes]
                found.append(pipeline_seconds(shape, batch, context, setup, 2))
                cells = "".join(f"{1e3 * t:9.2f}{alone / t:6.2f}" for t in found)
                sums = collective_seconds(shape, batch, setup.link, 2)
                print(f"{name:13}{batch:6}{1e3 * alone:9.2f}{cells}{1e3 * sums:11.2f}")


if __name__ == "__main__":
    main()
