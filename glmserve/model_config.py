"""What a checkpoint's config.json says about its architecture, checked once for everybody.

Pure Python: the server process reads it for the context length and the end tokens before any
worker starts; the worker builds the model from the same object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from glmserve.config import RopeScaling, WeightBits
from glmserve.config_reader import ConfigReader, locate_config, read_json_object
from glmserve.errors import CheckpointError
from glmserve.prefix_config import PrefixConfig, read_prefix_config
from glmserve.prompt_layout import PromptMarks

MODEL_TYPES = ("chatglm", "glm")

_MOST_LAYERS = 10_000
_LONGEST_CONTEXT = 2**24
"""Tokens; the family's longest has 2**20. Tables are made for as many."""

ROPE_BASE = 10000.0
"""The family's rotary base before rope_ratio; the remote code has it as a literal."""

_PREFIX_ALONE = (
    "a P-Tuning v2 prefix belongs to a base model; name that by --checkpoint, and this by "
    "--ptuning-checkpoint"
)

_WITHOUT_EFFECT = frozenset(
    # Bookkeeping, training-only fields, and switches that the original code stores but never uses
    # at inference (original_rope, fp32_residual_connection) or that cancel out
    # (apply_query_key_layer_scaling divides by the layer number and multiplies back). The original
    # code never ties its embeddings, whatever tie_word_embeddings says.
    "_name_or_path architectures auto_map transformers_version use_cache attention_dropout "
    "hidden_dropout bias_dropout_fusion classifier_dropout apply_query_key_layer_scaling "
    "attention_softmax_in_fp32 fp32_residual_connection original_rope pad_token_id bos_token_id "
    "dtype torch_dtype initializer_range vocab_size num_hidden_layers chat_format "
    "prefix_projection tie_word_embeddings".split()
)


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding of adjacent pairs in the first `dim` dims of each head."""

    dim: int
    base: float
    position_divisor: float
    """ChatGLM2-6B-32k divides positions; every other model leaves 1."""
    axes: Literal[1, 2] = 1
    """2: a second position turns the next `dim` dims in the same way."""
    rounded_frequencies: bool = False
    """Frequencies are rounded to float16, as the original code of ChatGLM-6B has them."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one checkpoint of the family."""

    path: Path
    """The config.json it was read from."""
    model_type: Literal["chatglm-6b", "chatglm", "glm"]
    """Names and layout of the stored tensors: THUDM's of the first generation and since the second,
    or transformers' in-tree Glm. It also tells the block."""
    vocab_size: int
    """Rows of the output layer; may exceed the tokenizer's vocabulary."""
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    norm: Literal["rmsnorm", "layernorm"]
    norm_eps: float
    final_norm: bool
    qkv_bias: bool
    linear_bias: bool
    """Biases of the attention output and of the MLP."""
    qkv_per_head: bool
    """Stored query_key_value rows are [q k v] head by head instead of all q, all k, all v."""
    residual_post_norm: bool
    """The residual is the normed tensor instead of the stream."""
    tied_embeddings: bool
    rope: RopeConfig
    max_context: int
    stored_dtype: str | None
    eos_token_ids: tuple[int, ...]
    unknown_fields: tuple[str, ...]
    """Fields of config.json that we do not know; worth a warning."""
    stored_bits: WeightBits | None = None
    """Of the layers' linear weights, if the checkpoint is a quantised one."""
    stored_group_size: int | None = None
    """Columns of such a weight that share a scale; None: whole rows, as officially."""
    gated_ffn: bool = True
    """The MLP has a gate projection beside the up projection."""
    prompt_marks: PromptMarks | None = None
    """What tells a prompt's layout; None: prompts are read from left to right."""
    prefix: PrefixConfig | None = None
    """Learnt keys and values before every sequence."""

    @property
    def prefix_length(self) -> int:
        """Slots of the prefix, if there is one."""
        return self.prefix.length if self.prefix else 0

    @property
    def linear_widths(self) -> frozenset[int]:
        """Columns that the layers' linear weights have."""
        return frozenset({self.hidden_size, self.num_heads * self.head_dim, self.ffn_size})


def read_model_config(
    checkpoint: Path,
    rope_scaling: RopeScaling | None = None,
    ptuning_checkpoint: str | None = None,
) -> ModelConfig:
    """Read and check a checkpoint's architecture.

    Args:
        checkpoint: folder, or one weights file with config.json beside it.
        rope_scaling: what rope_ratio means, when the checkpoint itself does not tell.
        ptuning_checkpoint: where a P-Tuning v2 prefix for this model is.

    Raises:
        CheckpointError: a field is missing, has the wrong type, or asks for something we do not do.
    """
    config = _read_architecture(ConfigReader(locate_config(checkpoint)), rope_scaling)
    if ptuning_checkpoint is None:
        return config
    return replace(config, prefix=read_prefix_config(Path(ptuning_checkpoint)))


def _read_architecture(reader: ConfigReader, rope_scaling: RopeScaling | None) -> ModelConfig:
    model_type = reader.text("model_type")
    if model_type == "chatglm":
        is_first = "inner_hidden_size" in reader or "position_encoding_2d" in reader
        return _read_chatglm_6b(reader) if is_first else _read_chatglm(reader, rope_scaling)
    if model_type == "glm":
        return _read_glm(reader)
    raise reader.refuse("model_type", f"not served; known types: {', '.join(MODEL_TYPES)}")


def _read_chatglm(reader: ConfigReader, rope_scaling: RopeScaling | None) -> ModelConfig:
    """THUDM's own format: ChatGLM2-6B, ChatGLM3-6B, CodeGeeX2, GLM-4-9B."""
    _refuse_unserved_chatglm(reader)
    heads = reader.integer("num_attention_heads")
    grouped = reader.boolean("multi_query_attention", False)
    groups = reader.integer("multi_query_group_num", 1)
    head_dim = reader.integer("kv_channels")
    linear_bias = reader.boolean("add_bias_linear", False)
    num_layers = reader.integer("num_layers", maximum=_MOST_LAYERS)
    reader.require_equal("num_hidden_layers", num_layers, "disagrees with num_layers")
    return _checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type="chatglm",
            vocab_size=reader.integer("padded_vocab_size"),
            hidden_size=reader.integer("hidden_size"),
            num_layers=num_layers,
            num_heads=heads,
            num_kv_heads=groups if grouped else heads,
            head_dim=head_dim,
            ffn_size=reader.integer("ffn_hidden_size"),
            norm="rmsnorm" if reader.boolean("rmsnorm", True) else "layernorm",
            norm_eps=reader.number("layernorm_epsilon", 1e-5),
            final_norm=reader.boolean("post_layer_norm", True),
            qkv_bias=linear_bias or reader.boolean("add_qkv_bias", False),
            linear_bias=linear_bias,
            qkv_per_head=not grouped,
            residual_post_norm=reader.boolean("apply_residual_connection_post_layernorm", False),
            tied_embeddings=False,
            rope=_chatglm_rope(reader, head_dim, rope_scaling),
            max_context=reader.integer("seq_length", 2048, maximum=_LONGEST_CONTEXT),
            stored_dtype=_stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=_stored_bits(reader),
            stored_group_size=_stored_group_size(reader),
            unknown_fields=tuple(reader.unread(_WITHOUT_EFFECT)),
        ),
    )


def _read_chatglm_6b(reader: ConfigReader) -> ModelConfig:
    """THUDM's own format of the first generation, ChatGLM-6B; most of its block is fixed."""
    reader.require_equal("position_encoding_2d", True, "ChatGLM-6B always has two positions")
    reader.require_equal("quantization_embeddings", False, "only linear weights may be quantised")
    reader.require_equal("pre_seq_len", 0, _PREFIX_ALONE)
    hidden_size, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    if hidden_size % (4 * heads):
        raise reader.refuse("num_attention_heads", f"does not divide {hidden_size} into pairs")
    head_dim = hidden_size // heads
    return _checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type="chatglm-6b",
            vocab_size=reader.integer("vocab_size"),
            hidden_size=hidden_size,
            num_layers=reader.integer("num_layers", maximum=_MOST_LAYERS),
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=head_dim,
            ffn_size=reader.integer("inner_hidden_size", 4 * hidden_size),
            norm="layernorm",
            norm_eps=reader.number("layernorm_epsilon", 1e-5),
            final_norm=True,
            qkv_bias=True,
            linear_bias=True,
            qkv_per_head=True,
            residual_post_norm=True,
            tied_embeddings=False,
            rope=RopeConfig(head_dim // 2, ROPE_BASE, 1.0, axes=2, rounded_frequencies=True),
            max_context=reader.integer("max_sequence_length", 2048, maximum=_LONGEST_CONTEXT),
            stored_dtype=_stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=_stored_bits(reader),
            stored_group_size=_stored_group_size(reader),
            gated_ffn=False,
            prompt_marks=PromptMarks(
                gmask_id=reader.integer("gmask_token_id"),
                mask_id=reader.integer("mask_token_id"),
                sop_id=reader.integer("bos_token_id"),
            ),
            unknown_fields=tuple(reader.unread(_WITHOUT_EFFECT)),
        ),
    )


def _stored_bits(reader: ConfigReader) -> WeightBits | None:
    """quantization_bit; 0 and none mean that weights are plain."""
    known: dict[tuple[int, ...], WeightBits | None] = {(): None, (0,): None, (4,): 4, (8,): 8}
    bits = reader.integers("quantization_bit")
    if bits not in known:
        raise reader.refuse("quantization_bit", "only 4 and 8 are known")
    return known[bits]


def _stored_group_size(reader: ConfigReader) -> int | None:
    """quantization_group_size, a field of ours; official checkpoints have one scale per row."""
    key = "quantization_group_size"
    return reader.integer(key) if key in reader else None


def _refuse_unserved_chatglm(reader: ConfigReader) -> None:
    """Name the fields that would change the maths in a way that is not implemented."""
    reader.require_equal("pre_seq_len", 0, _PREFIX_ALONE)
    reader.require_equal("interleaved_qkv", False, "this layout of query_key_value is not known")
    reader.require_equal("rotary_percent", 0.5, "the family rotates half of each head")
    reader.require_equal("quantization_config", {}, "quantised checkpoints are not served yet")


def _read_glm(reader: ConfigReader) -> ModelConfig:
    """transformers' in-tree Glm: GLM-4-9B-hf, GLM-4-9B-chat-hf."""
    heads = reader.integer("num_attention_heads")
    hidden_size = reader.integer("hidden_size")
    head_dim = reader.integer("head_dim", max(1, hidden_size // heads))
    reader.require_equal("hidden_act", "silu", "only silu is known")
    reader.require_equal("quantization_config", {}, "quantised checkpoints are not served yet")
    reader.require_equal("sliding_window", 0, "sliding windows are not known")
    return _checked(
        reader,
        ModelConfig(
            path=reader.path,
            model_type="glm",
            vocab_size=reader.integer("vocab_size"),
            hidden_size=hidden_size,
            num_layers=reader.integer("num_hidden_layers", maximum=_MOST_LAYERS),
            num_heads=heads,
            num_kv_heads=reader.integer("num_key_value_heads", heads),
            head_dim=head_dim,
            ffn_size=reader.integer("intermediate_size"),
            norm="rmsnorm",
            norm_eps=reader.number("rms_norm_eps", 1.5625e-07),
            final_norm=True,
            qkv_bias=reader.boolean("attention_bias", True),
            linear_bias=False,
            qkv_per_head=False,
            residual_post_norm=False,
            tied_embeddings=reader.boolean("tie_word_embeddings", False),
            rope=_glm_rope(reader, head_dim),
            max_context=reader.integer("max_position_embeddings", 131072, maximum=_LONGEST_CONTEXT),
            stored_dtype=_stored_dtype(reader),
            eos_token_ids=reader.integers("eos_token_id"),
            stored_bits=_stored_bits(reader),
            stored_group_size=_stored_group_size(reader),
            unknown_fields=tuple(reader.unread(_WITHOUT_EFFECT)),
        ),
    )


def _checked(reader: ConfigReader, config: ModelConfig) -> ModelConfig:
    """Refuse numbers that do not go together."""
    if config.num_heads % config.num_kv_heads:
        raise CheckpointError(
            f"{reader.path}: {config.num_heads} attention heads cannot share "
            f"{config.num_kv_heads} key/value heads evenly"
        )
    if config.rope.dim % 2 or not 2 <= config.rope.dim <= config.head_dim:
        raise CheckpointError(
            f"{reader.path}: {config.rope.dim} rotary dims do not form pairs within heads of "
            f"{config.head_dim}"
        )
    group_size = config.stored_group_size
    if group_size is not None:
        if config.stored_bits != 4:
            raise reader.refuse("quantization_group_size", "only with quantization_bit 4")
        for width in config.linear_widths:
            if width % group_size:
                raise reader.refuse("quantization_group_size", f"does not divide {width} columns")
    return config


def _stored_dtype(reader: ConfigReader) -> str | None:
    """`torch_dtype`, which newer transformers calls `dtype`."""
    key = "torch_dtype" if "torch_dtype" in reader else "dtype"
    return reader.text(key) if key in reader else None


def _glm_rope(reader: ConfigReader, head_dim: int) -> RopeConfig:
    """rope_parameters (transformers 5) or the older flat fields."""
    parameters = reader.mapping("rope_parameters")
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise reader.refuse("rope_parameters", f"rope_type {kind!r} is not known")
    reader.require_equal("rope_scaling", {}, "rotary scaling of this kind is not known")
    found = {
        "partial_rotary_factor": reader.number("partial_rotary_factor", 0.5),
        "rope_theta": reader.number("rope_theta", ROPE_BASE),
    }
    for key in found.keys() & parameters.keys():
        value = parameters[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise reader.refuse("rope_parameters", f"{key} must be a positive, finite number")
        found[key] = float(value)
    fraction = found["partial_rotary_factor"]
    if fraction > 1:
        raise CheckpointError(f"{reader.path}: partial_rotary_factor {fraction} is above 1")
    return RopeConfig(dim=int(head_dim * fraction), base=found["rope_theta"], position_divisor=1.0)


def _chatglm_rope(
    reader: ConfigReader, head_dim: int, rope_scaling: RopeScaling | None
) -> RopeConfig:
    """Half of each head rotates; rope_ratio stretches it in one of two ways.

    ChatGLM2-6B-32k divides positions by rope_ratio; ChatGLM3-6B-32k/128k and GLM-4 multiply the
    base by it. model_type is the same, so the checkpoint's name or its tokenizer must tell.
    """
    ratio = reader.number("rope_ratio", 1.0)
    base = reader.number("rope_theta", ROPE_BASE)
    if ratio == 1.0:
        return RopeConfig(dim=head_dim // 2, base=base, position_divisor=1.0)
    meaning = rope_scaling or rope_meaning(reader.path.parent)
    if meaning is None:
        raise reader.refuse(
            "rope_ratio",
            "ChatGLM2-6B-32k divides positions by it, ChatGLM3 and GLM-4 multiply the rotary base "
            "by it, and this checkpoint does not tell which it is; say "
            "--rope-scaling positions or --rope-scaling base",
        )
    if meaning == "positions":
        return RopeConfig(dim=head_dim // 2, base=base, position_divisor=ratio)
    return RopeConfig(dim=head_dim // 2, base=base * ratio, position_divisor=1.0)


def rope_meaning(folder: Path) -> RopeScaling | None:
    """What rope_ratio means for the checkpoint in `folder`; None when nothing tells."""
    if _is_tiktoken(folder / "tokenizer.model"):
        return "base"
    meanings: set[RopeScaling] = set()
    for name in map(str.lower, name_hints(folder)):
        if re.search(r"chatglm-?2(?!\d)", name):
            meanings.add("positions")
        if re.search(r"chatglm-?3(?!\d)|glm-?4(?!\d)|codegeex4", name):
            meanings.add("base")
    return meanings.pop() if len(meanings) == 1 else None


def name_hints(folder: Path) -> list[str]:
    """Names a checkpoint goes by: those it was published under, then its folder's own."""
    hints = []
    for key in ("_name_or_path", "name_or_path"):
        for file in ("tokenizer_config.json", "config.json"):
            if (folder / file).is_file():
                hints.append(read_json_object(folder / file).get(key))
    return [*(hint for hint in hints if isinstance(hint, str)), folder.resolve().name]


def _is_tiktoken(path: Path) -> bool:
    """GLM-4's tokenizer.model is text: lines of base64 and a rank."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(512)
    return re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\r?\n", line) is not None
