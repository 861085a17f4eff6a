"""Where the model runs, and in which numbers."""

from __future__ import annotations

import argparse
from typing import get_args

from glmserve.cli import values
from glmserve.config import AttentionName, CpuKernels, KvCacheDType, Quantization


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("device and memory")
    group.add_argument("--device", default="auto", help="cpu, cuda, ...; auto: the first there is")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="of weights and KV cache",
    )
    group.add_argument(
        "--quantization",
        choices=get_args(Quantization),
        help="round the weights of matrix products while loading: to 8 bits (int8), to 4 (int4), "
        "or these and activations to 8 (w8a8, w4a8)",
    )
    group.add_argument("--threads", type=values.positive, metavar="N", help="CPU threads")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--cpus",
        type=values.cpu_list,
        metavar="LIST",
        help="logical CPUs for the cpu device, like 0-15,32; the server process keeps to the "
        "others if there are any",
    )
    where.add_argument(
        "--numa-node",
        type=values.non_negative,
        metavar="N",
        help="the CPUs of this node, and its memory while there is any",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="a request's numbers are the same bits whatever shares its batch; slower, but not on "
        "a CPU with native kernels",
    )
    group.add_argument(
        "--attention-backend",
        choices=get_args(AttentionName),
        default="auto",
        help="who computes attention; auto: native on a CPU, triton on a GPU, else sdpa (torch's "
        "own)",
    )
    group.add_argument(
        "--cpu-kernels",
        choices=get_args(CpuKernels),
        default="auto",
        help="native: glmserve's own, compiled when it was installed; auto: these if there are any",
    )
    group.add_argument(
        "--kv-cache-dtype",
        choices=get_args(KvCacheDType),
        default="auto",
        help="int8 and fp8 keep twice the tokens of 16-bit numbers; auto: as --dtype",
    )
    group.add_argument(
        "--block-size",
        type=values.positive,
        metavar="TOKENS",
        help="token slots per KV block; default: the device's choice",
    )
    group.add_argument(
        "--kv-cache-memory", type=values.num_bytes, metavar="BYTES", help="for example 4G"
    )
    group.add_argument("--kv-cache-tokens", type=values.positive, metavar="N")
    group.add_argument(
        "--prefix-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="reuse the K/V of earlier prompts that begin alike",
    )
