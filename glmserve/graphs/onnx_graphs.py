"""Writes all ONNX graphs of a compilation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from glmserve.config import CompilationConfig, Quantization
from glmserve.graphs import names
from glmserve.graphs.checks import total_length
from glmserve.graphs.lane_shape import LaneShape
from glmserve.graphs.onnx_builder import OnnxBuilder
from glmserve.graphs.onnx_dialect import NEWEST, VASTAI
from glmserve.graphs.onnx_lanes import save_head_graph, save_inspection_graph, save_lane_graph
from glmserve.graphs.weights_file import StoredWeights
from glmserve.model_config import ModelConfig
from glmserve.runner.dtypes import dtype_name


def write_onnx_graphs(
    compilation: CompilationConfig,
    model: ModelConfig,
    weights: StoredWeights,
    dtype: torch.dtype,
    quantization: Quantization | None,
    parts: Sequence[range],
    folder: Path,
) -> list[str]:
    """Write base, incremental and head graphs. Returns their names.

    Args:
        parts: layers of each part.
    """
    rounds = quantization in ("w8a8", "w4a8")
    dialect = VASTAI if compilation.runtime == "vacc" else NEWEST
    build = partial(
        OnnxBuilder, weights, dtype_name(dtype), rounds_activations=rounds, dialect=dialect
    )
    total_len = total_length(compilation, model)
    shapes = {names.BASE: LaneShape(1, compilation.prompt_len, total_len)}
    for lanes in sorted(set(compilation.batch_sizes)):
        shapes[names.incremental(lanes)] = LaneShape(lanes, 1, total_len)
    written = [names.HEAD]
    for graph, shape in shapes.items():
        for name, layers in zip(names.parts(graph, len(parts)), parts, strict=True):
            save_lane_graph(build(), model, shape, layers, folder / name)
            written.append(name)
    save_head_graph(build(), model, names.HEAD_ROWS, folder / names.HEAD)
    if compilation.inspectable:
        save_inspection_graph(build(), model, shapes[names.BASE], folder / names.INSPECTION)
        written.append(names.INSPECTION)
    return written
