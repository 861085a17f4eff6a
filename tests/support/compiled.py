"""Compiles checkpoints and loads the result; skips where a runtime's package is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmserve.config import (
    CompilationConfig,
    GraphAttention,
    GraphTarget,
    RunnerConfig,
    report_nothing,
)
from glmserve.contract.step import Runner
from glmserve.devices.registry import device_for

FORMS: list[tuple[GraphTarget, GraphAttention]] = [
    ("onnx", "lanes"),
    ("onnxruntime", "lanes"),
    ("openvino", "lanes"),
    ("openvino", "paged"),
]
"""Everything that `glmserve compile` writes and glmserve serves."""


def compile_model(
    source: Path, target: Path, runtime: GraphTarget, attention: GraphAttention, **options: Any
) -> Path:
    """Compile a checkpoint, with small graphs."""
    pytest.importorskip("onnx", reason="needs the onnxruntime or openvino extra")
    pytest.importorskip(
        "openvino" if runtime == "openvino" else "onnxruntime",
        reason="needs the onnxruntime or openvino extra",
    )
    from glmserve.graphs.compile import compile_checkpoint

    sizes = {"prompt_len": 16, "batch_sizes": (1, 8), "total_len": 192}
    compilation = CompilationConfig(
        source=str(source),
        target=str(target),
        runtime=runtime,
        attention=attention,
        **{**sizes, **options},
    )
    compile_checkpoint(compilation, report_nothing)
    return target


def load_compiled(folder: Path, **options: Any) -> Runner:
    """The runner of a compiled folder."""
    paged = (folder / "paged.xml").exists()
    size = {"kv_cache_tokens": 2048} if paged else {}
    config = RunnerConfig(checkpoint=str(folder), **{"threads": 1, **size, **options})
    return device_for(config).create_runner(config, report_nothing)
