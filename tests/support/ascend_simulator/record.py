"""Writes the vendor's schemas to schemas.json. Runs where torch_npu can be imported.

python record.py > schemas.json
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import torch_npu  # noqa: F401

CALLS = {
    "npu": [
        "npu_add_rms_norm",
        "npu_convert_weight_to_int4pack",
        "npu_dynamic_quant",
        "npu_fused_infer_attention_score",
        "npu_incre_flash_attention",
        "npu_quant_matmul",
        "npu_quantize",
        "npu_rms_norm",
        "npu_rotary_mul",
        "npu_scatter_pa_kv_cache",
        "npu_swiglu",
        "npu_weight_quant_batchmatmul",
    ],
    "atb": ["_npu_paged_attention", "_npu_reshape_and_cache"],
}


def schemas() -> dict[str, str]:
    """The vendor's schema of each call, by its qualified name."""
    found = {}
    for namespace, names in CALLS.items():
        for name in names:
            call = getattr(getattr(torch.ops, namespace), name).default
            found[f"{namespace}::{name}"] = str(call._schema)
    return found


if __name__ == "__main__":
    record = {"torch_npu": version("torch_npu"), "schemas": schemas()}
    Path(sys.argv[1]).write_text(json.dumps(record, indent=2) + "\n")
