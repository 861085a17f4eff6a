"""Registers the simulated calls under the recorded schemas, once in a process."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch

from support.ascend_simulator import kernels

RECORD = json.loads((Path(__file__).parent / "schemas.json").read_text())
"""`torch_npu`: the version of the vendor's package; `schemas`: by qualified name."""

_libraries: list[torch.library.Library] = []  # a library takes its calls with it when it is freed


@cache
def register() -> None:
    """Define `torch.ops.npu` and `torch.ops.atb`, for tensors on the CPU."""
    for namespace in ("npu", "atb"):
        library = torch.library.Library(namespace, "DEF")
        for name, schema in RECORD["schemas"].items():
            owner, _, own = name.partition("::")
            if owner == namespace:
                library.define(schema.removeprefix(f"{namespace}::"))
                library.impl(own, getattr(kernels, own), "CPU")
        _libraries.append(library)
