"""Compiles a checkpoint: writes graphs, weights, tokenizer and manifest into a new folder.

Weights go into their file one parameter at a time, so only the embedding and small parameters
are in memory together.
"""

from __future__ import annotations

from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import torch

from glmserve.config import CompilationConfig, GraphTarget, Quantization, ReportProgress
from glmserve.converter.folder import appearing_whole, copy_other_files, write_config
from glmserve.errors import CheckpointError
from glmserve.graphs.checks import (
    check_compilation,
    check_packages,
    dtype_of,
    quantization_of,
    total_length,
)
from glmserve.graphs.manifest import Manifest, describe_files, is_compiled, write_manifest
from glmserve.graphs.parameters import (
    store_parameters,
    store_prefix,
    with_rotary_halves,
)
from glmserve.graphs.split import parts_of
from glmserve.graphs.weights_file import (
    WEIGHTS_FILE,
    LinearLayout,
    StoredWeights,
    WeightsFile,
)
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.parameters import count_parameters
from glmserve.models.prefix import load_prefix
from glmserve.models.weights import load_weights
from glmserve.ops.rope import rope_table
from glmserve.runner.dtypes import dtype_name

_HOST = torch.device("cpu")
_PACKAGES = {
    "onnx": ("onnx",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "vacc": ("onnx",),
    "compass": ("onnx",),
}
_LAYOUTS: dict[GraphTarget, LinearLayout] = {"onnxruntime": "blocked", "compass": "transposed"}
"""Of linear weights; of other runtimes they are plain."""


def compile_checkpoint(compilation: CompilationConfig, progress: ReportProgress) -> Manifest:
    """Write the target folder. It gets its name when it is complete.

    Args:
        progress: called with bytes of weights done and in all.

    Raises:
        StartupError: the checkpoint is broken or has no graph, an option cannot be honoured, or a
            package is missing.
        OSError: a file cannot be read or written.
    """
    check_packages(compilation)
    source = Path(compilation.source)
    if is_compiled(source):
        raise CheckpointError(f"{source}: compiled already; compile the checkpoint it came from")
    model = read_model_config(source, compilation.rope_scaling, compilation.ptuning_checkpoint)
    check_compilation(compilation, model)
    dtype, quantization = dtype_of(compilation, model), quantization_of(compilation, model)
    with appearing_whole(Path(compilation.partial), Path(compilation.target)) as folder:
        weights = _write_weights(compilation, model, dtype, quantization, folder, progress)
        parts = parts_of(compilation, model, weights, dtype)
        graphs = _write_graphs(compilation, model, weights, dtype, quantization, parts, folder)
        copy_other_files(model.path.parent, folder)
        write_config(model.path, folder, {})
        manifest = _manifest(compilation, model, dtype, quantization, parts, folder, graphs)
        write_manifest(folder, manifest)
    return manifest


def _write_weights(
    compilation: CompilationConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    quantization: Quantization | None,
    folder: Path,
    progress: ReportProgress,
) -> StoredWeights:
    path = folder / WEIGHTS_FILE
    layout = _LAYOUTS.get(compilation.runtime, "plain")
    with closing(WeightsFile(path, dtype, layout)) as file, torch.inference_mode():
        parameters = load_weights(model, Path(compilation.source), dtype, _HOST, progress)
        is_whole = compilation.attention == "whole"
        if not is_whole:
            parameters = with_rotary_halves(parameters, model)
        stored = store_parameters(parameters, model, file, quantization)
        # A chunk's padding may reach beyond the last slot.
        length = total_length(compilation, model) + compilation.prompt_len
        rotations = rope_table(model.rope, length, _HOST)
        if is_whole:
            stored["rope.table"] = file.add(torch.view_as_real(rotations))
        else:
            stored["rope.cosines"] = file.add(rotations.real)
            stored["rope.sines"] = file.add(rotations.imag)
        if model.prefix is not None:
            stored |= store_prefix(load_prefix(model, model.prefix, dtype), model, file)
    return stored


def _write_graphs(
    compilation: CompilationConfig,
    model: ModelConfig,
    weights: StoredWeights,
    dtype: torch.dtype,
    quantization: Quantization | None,
    parts: list[range],
    folder: Path,
) -> list[str]:
    """Write the graphs. Returns the names of all files that hold graphs and weights."""
    # Imported here: each needs packages of its own.
    if compilation.attention == "paged":
        from glmserve.graphs.openvino_graphs import write_openvino_graphs

        return write_openvino_graphs(model, weights, folder)
    total_len = total_length(compilation, model)
    if compilation.attention == "whole":
        from glmserve.graphs.vendor import compass

        return [*compass.write_files(compilation, model, weights, total_len, folder), WEIGHTS_FILE]
    from glmserve.graphs.onnx_graphs import write_onnx_graphs

    graphs = write_onnx_graphs(compilation, model, weights, dtype, quantization, parts, folder)
    if compilation.runtime == "vacc":
        from glmserve.graphs.vendor import vacc

        vacc.write_files(compilation, model, graphs, quantization, total_len, folder)
    return [*graphs, WEIGHTS_FILE]


def _manifest(
    compilation: CompilationConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    quantization: Quantization | None,
    parts: list[range],
    folder: Path,
    graphs: list[str],
) -> Manifest:
    stored: Quantization | None = None
    if model.stored_bits is not None:
        stored = "int8" if model.stored_bits == 8 else "int4"
    is_paged = compilation.attention == "paged"
    return Manifest(
        versions={name: version(name) for name in _PACKAGES[compilation.runtime]},
        runtime=compilation.runtime,
        attention=compilation.attention,
        dtype=dtype_name(dtype),
        quantization=quantization or stored,
        rope_scaling=compilation.rope_scaling,
        total_len=total_length(compilation, model),
        prompt_len=0 if is_paged else compilation.prompt_len,
        batch_sizes=() if is_paged else tuple(sorted(set(compilation.batch_sizes))),
        split=tuple(map(len, parts)),
        weight_bytes=sum((folder / name).stat().st_size for name in graphs),
        num_parameters=count_parameters(model),
        files=describe_files(folder),
    )
