"""Hexaflake's cards (Compass C10): what can be compiled for them, and the script that does it.

The published flow compiles an ONNX graph of a whole context into a base and an incremental engine,
and combines both into one file. Its compiler rounds weights itself. Source: README.md,
compile/glm2_6b_dyn.py and compile/combine.py in github.com/hexaflakeai/ChatGLM2-6B.
"""

from __future__ import annotations

from pathlib import Path

from glmserve.config import CompilationConfig
from glmserve.graphs.onnx_builder import OnnxBuilder
from glmserve.graphs.onnx_dialect import TVM
from glmserve.graphs.vendor.checks import TABLE_LENGTH
from glmserve.graphs.vendor.compass_graph import save_whole_graph
from glmserve.graphs.weights_file import StoredWeights
from glmserve.model_config import ModelConfig

GRAPH = "model.onnx"
_SCRIPT = "build.sh"
_ENGINE = "glm"
"""--export-name: the engines' names begin with it."""

_LONG_GRAPH = 2048
"""Tokens of the graph that the script reads for contexts beyond TABLE_LENGTH."""
_TRUE, _FALSE = "True", "''"
_USUAL_CHUNK = 256
"""--pre-len that the engines' names do not show."""


def write_files(
    compilation: CompilationConfig,
    model: ModelConfig,
    weights: StoredWeights,
    total_len: int,
    folder: Path,
) -> list[str]:
    """Write the graph and the script that compiles it. Returns the graph's name."""
    builder = OnnxBuilder(weights, "float32", dialect=TVM)
    save_whole_graph(builder, model, _graph_length(total_len), folder / GRAPH)
    (folder / _SCRIPT).write_text(_script(compilation, total_len), encoding="utf-8")
    return [GRAPH]


def _graph_length(total_len: int) -> int:
    """Tokens of the graph that the script reads for contexts of total_len."""
    return total_len if total_len <= TABLE_LENGTH else _LONG_GRAPH


def _script(compilation: CompilationConfig, total_len: int) -> str:
    lines = [
        "#!/bin/sh",
        "# Compiles model.onnx for Hexaflake's cards, and combines base and incremental engines.",
        "# Usage: sh build.sh SCRIPTS, where SCRIPTS is the folder `compile` of",
        "# https://github.com/hexaflakeai/ChatGLM2-6B, within the vendor's container.",
        "# It was never run with that compiler: none was at hand.",
        "set -e",
        'scripts=$(cd "${1:?the folder of glm2_6b_dyn.py and combine.py}" && pwd)',
        'cd "$(dirname "$0")"',
    ]
    for size in sorted(set(compilation.batch_sizes)):
        engine = _engine(compilation, size)
        lines += [
            "",
            'python3 "$scripts/glm2_6b_dyn.py" --model-path "$PWD/model.onnx" --target-path "$PWD" '
            f"--static-batch-size {size} --total-len {total_len} "
            f"--pre-len {compilation.prompt_len} {' '.join(_format(compilation))} "
            f"--export-name {_ENGINE}",
            f'python3 "$scripts/combine.py" --ngf-1 "$PWD/{engine}.ngf" '
            f'--ngf-2 "$PWD/{engine}_inc.ngf" --output "$PWD/{engine}_multi.ngf"',
        ]
    return "\n".join(lines) + "\n"


def _format(compilation: CompilationConfig) -> list[str]:
    """Options of the number format. The script reads any text but an empty one as true."""
    chosen = {
        "--is-bf16": compilation.dtype != "float32",
        "--quant": compilation.quantization is not None,
        "--int4": compilation.quantization == "int4",
    }
    return [f"{name} {_TRUE if value else _FALSE}" for name, value in chosen.items()]


def _engine(compilation: CompilationConfig, batch_size: int) -> str:
    """The name that the script gives an engine."""
    name = _ENGINE if batch_size == 1 else f"{_ENGINE}_b{batch_size}"
    name += "_fp32" if compilation.dtype == "float32" else "_bf16"
    if compilation.quantization:
        name += "_q4" if compilation.quantization == "int4" else "_q"
    chunk = compilation.prompt_len
    return name if chunk == _USUAL_CHUNK else f"{name}_pre{chunk}"
