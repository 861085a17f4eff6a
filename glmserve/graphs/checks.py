"""What a checkpoint can be compiled to, and the formats that the options leave open."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from glmserve.config import CompilationConfig, Quantization, RunnerConfig
from glmserve.errors import CheckpointError, DeviceError, OptionError
from glmserve.graphs.vendor.checks import check_vendor
from glmserve.model_config import ModelConfig
from glmserve.runner.dtypes import DTYPES, host_dtype, quantization_on_load

_LANE_TOKENS = 2048
"""Slots of a lane if --total-len is not given; a call reads all of them."""

_NEEDED = {
    "onnx": ("onnx",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "vacc": ("onnx",),
    "compass": ("onnx",),
}
"""Packages that write the graphs."""


def check_packages(compilation: CompilationConfig) -> None:
    """Check that the packages are installed.

    Raises:
        DeviceError: one is missing.
    """
    needed = {*_NEEDED[compilation.runtime]}
    if compilation.attention != "paged":
        needed.add("onnx")
    if missing := sorted(name for name in needed if find_spec(name) is None):
        extra = "openvino" if compilation.runtime == "openvino" else "onnxruntime"
        raise DeviceError(
            f"--for {compilation.runtime} needs the package {missing[0]}; "
            f"pip install 'glmserve[{extra}]'"
        )


def check_compilation(compilation: CompilationConfig, model: ModelConfig) -> None:
    """Check the model and the sizes.

    Raises:
        CheckpointError: the model has no graph.
        OptionError: the options do not fit each other or the model.
    """
    if model.model_type == "chatglm-6b":
        raise CheckpointError(
            f"{model.path}: ChatGLM-6B reads a prompt in both directions and whole, which graphs "
            "that read it in chunks cannot; serve it with --device cpu or cuda"
        )
    if model.modelslim is not None:
        raise CheckpointError(
            f"{model.path.parent}: ModelSlim's weights round activations by calibrated scales, for "
            "which graphs have no operator; compile the checkpoint that was quantised, or serve "
            "this with --device ascend or cpu"
        )
    if model.prefix is not None and compilation.attention != "lanes":
        raise OptionError(
            "--ptuning-checkpoint: only graphs over lanes have a place for a prefix; add "
            "--attention lanes, with --for openvino or onnx"
        )
    total_len = total_length(compilation, model)
    if total_len > model.max_context:
        raise OptionError(
            f"--total-len {total_len} is more than the {model.max_context} tokens that this "
            "model's config.json allows"
        )
    if compilation.attention != "paged" and compilation.prompt_len > total_len:
        raise OptionError(
            f"--prompt-len {compilation.prompt_len} is more than --total-len {total_len}"
        )
    check_vendor(compilation, model, total_len)


def total_length(compilation: CompilationConfig, model: ModelConfig) -> int:
    """Longest context of the graphs."""
    if compilation.total_len is not None:
        return compilation.total_len
    paged = compilation.attention == "paged"
    return model.max_context if paged else min(model.max_context, _LANE_TOKENS)


def dtype_of(compilation: CompilationConfig, model: ModelConfig) -> torch.dtype:
    """The dtype of the graphs' activations.

    Raises:
        OptionError: the runtime does not compute in it.
    """
    if compilation.runtime == "openvino":
        return host_dtype(_as_runner_config(compilation), model, fast_bfloat16=True)
    if compilation.dtype == "auto" or compilation.runtime == "compass":
        return torch.float32  # compass: its compiler makes the format that --dtype names
    if compilation.runtime == "onnxruntime" and compilation.dtype == "bfloat16":
        raise OptionError(
            "--dtype bfloat16: onnxruntime's CPU provider has no products in bfloat16; take "
            "float32, with --quantization for smaller weights, or --for openvino or onnx"
        )
    return DTYPES[compilation.dtype]


def quantization_of(compilation: CompilationConfig, model: ModelConfig) -> Quantization | None:
    """What plain linear weights are quantised to; None: nothing.

    Raises:
        OptionError: the checkpoint is quantised already, or the format has no rounded activations.
    """
    found = quantization_on_load(_as_runner_config(compilation), model)
    if compilation.runtime == "compass":
        return None  # its compiler rounds the weights
    if found in ("w8a8", "w4a8") and not _rounds_activations(compilation):
        raise OptionError(
            f"--quantization {found} rounds activations, for which static graphs of standard "
            "operators have none; take int8 or int4, --for onnxruntime, or --for openvino with "
            "--attention paged"
        )
    return found


def _rounds_activations(compilation: CompilationConfig) -> bool:
    return compilation.runtime == "onnxruntime" or compilation.attention == "paged"


def _as_runner_config(compilation: CompilationConfig) -> RunnerConfig:
    return RunnerConfig(
        checkpoint=compilation.source,
        dtype=compilation.dtype,
        quantization=compilation.quantization,
    )
