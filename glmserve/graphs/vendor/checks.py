"""What the vendors' flows can compile; see vacc.py and compass.py for their sources."""

from __future__ import annotations

from glmserve.config import CompilationConfig
from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config import ModelConfig

_LENGTHS = 16
"""The vendor's compiler takes multiples of it only (llm/README.md in
github.com/Vastai/VastModelZOO)."""

_GROUPS, _ROTARY, _HEAD = 16, 64, 128
"""The published script has these numbers of ChatGLM2-6B in its code: query heads for each key/value
head, and dims of a head that are rotated."""
TABLE_LENGTH = 8192
"""For longer contexts the script makes a table of rotations itself, of the base 10000."""


def check_vendor(compilation: CompilationConfig, model: ModelConfig, total_len: int) -> None:
    """Refuse what the flow of the vendor, if the graphs are for one, has no form for.

    Raises:
        CheckpointError: the model or its weights have none.
        OptionError: an option has none.
    """
    if compilation.runtime == "vacc":
        _check_vacc(compilation, model, total_len)
    if compilation.runtime == "compass":
        _check_compass(compilation, model, total_len)


def _check_vacc(compilation: CompilationConfig, model: ModelConfig, total_len: int) -> None:
    place = model.path.parent
    if model.stored_bits == 4 or model.stored_group_size is not None:
        raise CheckpointError(
            f"{place}: Vastai's operator has int8 weights with a scale for each row, and this "
            "checkpoint has others; compile the original one, with --quantization int8"
        )
    if compilation.quantization not in (None, "int8"):
        raise OptionError(
            f"--quantization {compilation.quantization}: Vastai's operator has int8 weights; take "
            "int8"
        )
    if compilation.dtype == "bfloat16":
        raise OptionError("--dtype bfloat16: Vastai's flow has float16; take float16 or float32")
    lengths = {"--prompt-len": compilation.prompt_len, "--total-len": total_len}
    for option, length in lengths.items():
        if length % _LENGTHS:
            raise OptionError(
                f"{option} {length}: Vastai's compiler takes multiples of {_LENGTHS}; take "
                f"{-(-length // _LENGTHS) * _LENGTHS}"
            )


def _check_compass(compilation: CompilationConfig, model: ModelConfig, total_len: int) -> None:
    place = model.path.parent
    if model.stored_bits is not None:
        raise CheckpointError(
            f"{place}: its weights are quantised, and Hexaflake's compiler rounds floating point "
            "weights itself; compile the original checkpoint, with --quantization int8 or int4"
        )
    if model.sandwich_norms:
        raise CheckpointError(
            f"{place}: Hexaflake's published script has no norms behind attention and MLP, which "
            "GLM-4-0414 and GLM-Z1 have; take --for onnx"
        )
    shape = (model.num_heads // model.num_kv_heads, model.rope.dim, model.head_dim)
    if shape != (_GROUPS, _ROTARY, _HEAD) or model.norm != "rmsnorm" or model.tied_embeddings:
        raise CheckpointError(
            f"{place}: Hexaflake's published script compiles models with {_GROUPS} query heads for "
            f"each key/value head, {_HEAD} numbers in a head of which {_ROTARY} rotate, RMSNorm "
            "and an output layer of its own, such as ChatGLM2-6B; take --for onnx"
        )
    rotation = (model.rope.base, model.rope.position_divisor, model.rope.yarn)
    if total_len > TABLE_LENGTH and rotation != (10000, 1, None):
        raise OptionError(
            f"--total-len {total_len}: beyond {TABLE_LENGTH} tokens Hexaflake's script rotates by "
            "the base 10000, and this model has another one; take less"
        )
    if compilation.dtype == "float16":
        raise OptionError(
            "--dtype float16: Hexaflake's compiler computes in bfloat16 or float32; take one"
        )
    if compilation.quantization in ("w8a8", "w4a8"):
        raise OptionError(
            f"--quantization {compilation.quantization}: Hexaflake's compiler rounds weights only; "
            "take int8 or int4"
        )
