"""Options for the device, number formats, kernels and memory."""

from __future__ import annotations

import argparse
from typing import get_args

from glmserve.cli import values
from glmserve.config import (
    AttentionName,
    CpuKernels,
    KvCacheDType,
    PipelineSplit,
    Quantization,
)
from glmserve.contract.shard import SIZES


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "device and memory" to a command."""
    group = parser.add_argument_group("device and memory")
    group.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda, rocm, ascend, or the name of a device plugin; auto: cuda, rocm, ascend or "
        "cpu, the first that works here",
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="number format of weights and activations; auto: float32 for a small model on a CPU, "
        "otherwise the format that suits the device",
    )
    group.add_argument(
        "--quantization",
        choices=get_args(Quantization),
        help="quantise the weights of matrix products while loading: to 8 bits (int8) or 4 bits "
        "(int4); w8a8 and w4a8 also quantise activations to 8 bits: both on a CPU, w8a8 on an "
        "Ascend NPU as well; on a CPU w4a8 needs the native kernels, w8a8 these or bfloat16; fp8 "
        "rounds weights and activations to float8, on newer GPUs of NVIDIA, and on a CPU to see "
        "what it costs in accuracy",
    )
    group.add_argument(
        "--threads",
        type=values.positive,
        metavar="N",
        help="CPU threads of the model; default: one per physical core, less one for the server "
        "process",
    )
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--cpus",
        type=values.cpu_list,
        metavar="LIST",
        help="logical CPUs that the model runs on, such as 0-15,32, with --device cpu; the server "
        "process uses the other CPUs if there are any",
    )
    where.add_argument(
        "--numa-node",
        type=values.non_negative,
        metavar="N",
        help="run the model on the CPUs of this NUMA node, and allocate its memory first; with "
        "--device cpu",
    )
    group.add_argument(
        "--tensor-parallel-size",
        "--tp-size",
        "--tp",
        "-tp",
        type=int,
        choices=SIZES,
        default=1,
        metavar="N",
        help="cut every layer over N worker processes: 1, 2, 4 or 8. On a CPU they share its NUMA "
        "nodes or cores, which suits two sockets; on GPUs each has one",
    )
    group.add_argument(
        "--pipeline-parallel-size",
        "--pp-size",
        "--pp",
        "-pp",
        type=values.positive,
        default=1,
        metavar="N",
        help="divide the layers over N stages of worker processes, and compute as many steps at a "
        "time; with --tensor-parallel-size each stage is cut as well",
    )
    group.add_argument(
        "--pipeline-split",
        choices=get_args(PipelineSplit),
        default="memory",
        help="how layers are divided over stages: memory makes the stage that needs most memory as "
        "small as possible, embedding and output layer included; equal gives each the same number",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="batch-invariant results: a request gets the same bits whatever else is in its batch. "
        "Slower on a GPU and with torch's kernels; always so with the native CPU kernels",
    )
    group.add_argument(
        "--attention-backend",
        choices=get_args(AttentionName),
        default="auto",
        help="implementation of attention: native (CPU), triton, xformers, npu, incre or atb "
        "(Ascend), or sdpa (torch's own); auto: native on a CPU, triton on a GPU, npu on an "
        "Ascend NPU, sdpa elsewhere",
    )
    group.add_argument(
        "--cpu-kernels",
        choices=get_args(CpuKernels),
        default="auto",
        help="native: glmserve's own C++ kernels, compiled during installation; torch: torch's; "
        "no-amx: as auto, but with AVX-512 on a CPU that has AMX; "
        "auto: native if they are installed and run on this CPU",
    )
    group.add_argument(
        "--kv-cache-dtype",
        choices=get_args(KvCacheDType),
        default="auto",
        help="number format of the KV cache; int8 and fp8 hold twice the tokens of a 16-bit "
        "format; fp8 needs an NVIDIA GPU of compute capability 8.9 or later; auto: as --dtype",
    )
    group.add_argument(
        "--block-size",
        "--page-size",
        type=values.positive,
        metavar="TOKENS",
        help="tokens per block of the KV cache; default: 32 on a CPU, where glmserve's own "
        "attention needs a multiple of 32 (16 with torch's kernels), 64 on a GPU, 128 on an Ascend "
        "NPU",
    )
    group.add_argument(
        "--kv-cache-memory",
        type=values.num_bytes,
        metavar="BYTES",
        help="size of the KV cache, such as 4G; default: the memory that is left",
    )
    group.add_argument(
        "--kv-cache-tokens",
        "--max-total-tokens",
        type=values.positive,
        metavar="N",
        help="size of the KV cache in tokens; an alternative to --kv-cache-memory",
    )
    group.add_argument(
        "--gpu-memory-utilization",
        type=values.share,
        metavar="SHARE",
        help="share of the GPU's or NPU's total memory for weights, activations and KV cache "
        "together, such as 0.9; it must be free at the start; default: all memory that is free",
    )
    group.add_argument(
        "--prefix-cache",
        "--enable-prefix-caching",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="reuse the KV cache of earlier requests with the same beginning",
    )
