"""All operations by name, imported when they are used."""

from __future__ import annotations

from importlib import import_module

from glmserve_kernels.operation import Operation

NAMES = (
    "rms_norm",
    "rope_cache",
    "silu_and_mul",
    "copy_blocks",
    "quantized_matmul",
    "dequantize_weight",
    "quantize_rows",
    "batch_invariant_matmul",
    "matmul_add",
    "norm_matmul_silu",
    "norm_matmul_rope",
    "add_lora",
    "paged_decode",
    "paged_prefill",
    "batch_invariant_attention",
    "adjust_logits",
    "most_likely_token",
    "sample",
)


def load(name: str) -> Operation:
    """The operation in the folder of this name."""
    operation: Operation = import_module(f"glmserve_kernels.{name}.cases").OPERATION
    return operation


def load_all() -> list[Operation]:
    """All operations, in the order of NAMES."""
    return [load(name) for name in NAMES]
