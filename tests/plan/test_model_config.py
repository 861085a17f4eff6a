"""config.json: what it may say, and how it is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from glmserve.contract.prompt_layout import PromptMarks
from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from glmserve.model_config.config import Yarn
from glmserve.model_config.prefix import PrefixConfig

CHATGLM2: dict[str, Any] = {
    "_name_or_path": "THUDM/chatglm2-6b",
    "model_type": "chatglm",
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": 13696,
    "hidden_size": 4096,
    "kv_channels": 128,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 28,
    "original_rope": True,
    "padded_vocab_size": 65024,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 32768,
    "torch_dtype": "float16",
    "eos_token_id": 2,
}
GLM4_HF: dict[str, Any] = {
    "model_type": "glm",
    "attention_bias": True,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 13696,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1.5625e-07,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 151552,
    "eos_token_id": [151329, 151336, 151338],
}


def write(folder: Path, config: dict[str, Any], **changes: Any) -> Path:
    merged = {k: v for k, v in {**config, **changes}.items() if v != "absent"}
    (folder / "config.json").write_text(json.dumps(merged))
    return folder


def test_chatglm2(tmp_path: Path) -> None:
    config = read_model_config(write(tmp_path, CHATGLM2))
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (32, 2, 128)
    assert (config.rope.dim, config.rope.base, config.rope.position_divisor) == (64, 10000.0, 1.0)
    assert config.eos_token_ids == (2,)
    assert config.max_context == 32768
    assert config.unknown_fields == ()


def test_glm4_hf(tmp_path: Path) -> None:
    config = read_model_config(write(tmp_path, GLM4_HF))
    assert (config.rope.dim, config.rope.base) == (64, 10000.0)
    assert config.eos_token_ids == (151329, 151336, 151338)
    newer = {"rope_type": "default", "rope_theta": 5e6, "partial_rotary_factor": 0.25}
    config = read_model_config(write(tmp_path, GLM4_HF, rope_theta="absent", rope_parameters=newer))
    assert (config.rope.dim, config.rope.base) == (32, 5e6)


@pytest.mark.parametrize(
    ("name", "base", "divisor"),
    [
        ("THUDM/chatglm2-6b-32k", 10000.0, 8.0),
        ("THUDM/chatglm3-6b-32k", 80000.0, 1.0),
        ("THUDM/glm-4-9b-chat", 80000.0, 1.0),
        ("THUDM/glm4-9b-chat", 80000.0, 1.0),
    ],
)
def test_rope_ratio_by_name(tmp_path: Path, name: str, base: float, divisor: float) -> None:
    folder = write(tmp_path, CHATGLM2, rope_ratio=8, _name_or_path=name)
    rope = read_model_config(folder).rope
    assert (rope.base, rope.position_divisor) == (base, divisor)


@pytest.mark.parametrize("name", ["absent", "/models/mine", "chatglm2-to-chatglm3"])
def test_rope_ratio_is_never_guessed(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, CHATGLM2, rope_ratio=8, _name_or_path=name)
    with pytest.raises(CheckpointError, match="--rope-scaling positions or --rope-scaling base"):
        read_model_config(folder)
    assert read_model_config(folder, "positions").rope.position_divisor == 8.0
    assert read_model_config(folder, "base").rope.base == 80000.0


def test_a_tiktoken_vocabulary_means_glm4(tmp_path: Path) -> None:
    folder = write(tmp_path, CHATGLM2, rope_ratio=8, _name_or_path="mine")
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    assert read_model_config(folder).rope.base == 80000.0


def test_groups_of_quantised_columns(tmp_path: Path) -> None:
    fields = {"quantization_bit": 4, "quantization_group_size": 128}
    config = read_model_config(write(tmp_path, CHATGLM2, **fields))
    assert (config.stored_bits, config.stored_group_size) == (4, 128)
    with pytest.raises(CheckpointError, match="does not divide 13696 columns"):
        read_model_config(write(tmp_path, CHATGLM2, **fields | {"quantization_group_size": 256}))
    with pytest.raises(CheckpointError, match="only with quantization_bit 4"):
        read_model_config(write(tmp_path, CHATGLM2, **fields | {"quantization_bit": 8}))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_layers", "28", "num_layers = '28': expected a whole number"),
        ("num_layers", True, "expected a whole number"),
        ("num_layers", 0, "at least 1"),
        ("num_layers", 10**7, "num_layers is too large; at most 10000"),
        ("hidden_size", 10**400, "hidden_size is too large"),
        ("layernorm_epsilon", 10**400, "expected a positive number"),
        ("hidden_size", "absent", "hidden_size is missing"),
        ("layernorm_epsilon", -1, "positive"),
        ("add_qkv_bias", 1, "expected true or false"),
        ("model_type", 7, "expected a string"),
        ("eos_token_id", "2", "whole number or a list"),
        ("num_hidden_layers", 40, "disagrees with num_layers"),
        ("multi_query_group_num", 3, "cannot share"),
        ("kv_channels", 6, "do not form pairs"),
        ("quantization_bit", 5, "only 4 and 8 are known"),
        ("quantization_group_size", 64, "only with quantization_bit 4"),
        ("pre_seq_len", 128, "P-Tuning"),
        ("rotary_percent", 0.25, "rotates half"),
        ("interleaved_qkv", True, "not known"),
    ],
)
def test_refusals_name_file_and_field(tmp_path: Path, field: str, value: Any, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_model_config(write(tmp_path, CHATGLM2, **{field: value}))
    assert said in caught.value.message
    assert str(tmp_path / "config.json") in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("rope_scaling", {"type": "dynamic", "factor": 2}),
        ("rope_scaling", {"type": "linear"}),
        ("rope_scaling", {"type": "linear", "factor": 2, "low_freq_factor": 1}),
        ("rope_parameters", {"rope_type": "yarn"}),
        ("rope_parameters", {"rope_type": "yarn", "factor": 2, "truncate": 1}),
        ("rope_parameters", {"rope_type": ["yarn"]}),
        ("rope_parameters", {"rope_theta": "x"}),
        ("sliding_window", 4096),
        ("quantization_config", {"bits": 4}),
    ],
)
def test_glm_refuses_what_it_cannot_do(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=field):
        read_model_config(write(tmp_path, GLM4_HF, **{field: value}))


GLM4_0414: dict[str, Any] = {**GLM4_HF, "model_type": "glm4", "max_position_embeddings": 32768}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def test_glm4_0414(tmp_path: Path) -> None:
    config = read_model_config(write(tmp_path, GLM4_0414, attention_bias=False))
    assert (config.model_type, config.sandwich_norms, config.qkv_bias) == ("glm4", True, False)
    assert (config.max_context, config.unknown_fields) == (32768, ())
    assert not read_model_config(write(tmp_path, GLM4_HF)).sandwich_norms


def test_a_longer_context_by_yarn(tmp_path: Path) -> None:
    """As the publisher's page tells users to add it."""
    config = read_model_config(write(tmp_path, GLM4_0414, rope_scaling=YARN))
    assert config.rope.yarn == Yarn(4.0, 32768, 0.1 * math.log(4) + 1)
    assert config.max_context == 131072
    scaled = write(tmp_path, GLM4_0414, rope_scaling={"type": "linear", "factor": 2})
    assert read_model_config(scaled).rope.position_divisor == 2
    for kind in ({"rope_type": None}, {"rope_type": None, "type": "default"}):
        plain = write(tmp_path, GLM4_0414, rope_scaling=kind)
        assert read_model_config(plain).rope.position_divisor == 1


def test_defaults_are_those_of_transformers(tmp_path: Path) -> None:
    absent = dict.fromkeys(("head_dim", "num_key_value_heads", "rms_norm_eps"), "absent")
    config = read_model_config(write(tmp_path, GLM4_HF, hidden_size=2048, **absent))
    assert (config.head_dim, config.num_kv_heads, config.norm_eps) == (128, 2, 1.5625e-07)


@pytest.mark.parametrize(
    ("model_type", "needed"),
    [
        ("glm4_moe", "a router and experts"),
        ("glm4_moe_lite", "compressed cache"),
        ("glm4v", "an encoder of pictures"),
        ("glm4v_moe_text", "experts"),
        ("cogvlm2", "an encoder of pictures"),
        ("glmasr", "an encoder of sound"),
        ("glm_moe_dsa", "experts"),
    ],
)
def test_other_models_are_refused_by_what_they_need(
    tmp_path: Path, model_type: str, needed: str
) -> None:
    """Whatever else config.json says: such models have experts and pictures, or are quantised."""
    others = {"vision_config": {"depth": 1}, "quantization_config": {"quant_method": "fp8"}}
    for more in ({}, others):
        with pytest.raises(CheckpointError) as caught:
            read_model_config(write(tmp_path, GLM4_HF, model_type=model_type, **more))
        assert f"model_type = '{model_type}': not served: it needs" in caught.value.message
        assert needed in caught.value.message


@pytest.mark.parametrize("base", [CHATGLM2, GLM4_HF])
@pytest.mark.parametrize(
    ("field", "value"), [("vision_config", {"depth": 1}), ("n_routed_experts", 8)]
)
def test_further_parts_are_refused(
    tmp_path: Path, base: dict[str, Any], field: str, value: Any
) -> None:
    """GLM-4V-9B and GLM-Edge-V have the types of models that are served."""
    with pytest.raises(CheckpointError, match=f"{field}: the model is not served: it needs"):
        read_model_config(write(tmp_path, base, **{field: value}))


def test_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="'llama': not served; known types: chatglm, glm, glm4"
    ):
        read_model_config(write(tmp_path, GLM4_HF, model_type="llama"))


@pytest.mark.parametrize(
    ("name", "ratio"), [("THUDM/glm-4-9b-chat-1m", 10000), ("THUDM/LongWriter-glm4-9b", 500)]
)
def test_long_contexts_multiply_the_base(tmp_path: Path, name: str, ratio: int) -> None:
    folder = write(tmp_path, CHATGLM2, rope_ratio=ratio, seq_length=1048576, _name_or_path=name)
    config = read_model_config(folder)
    assert (config.rope.base, config.rope.position_divisor) == (10000.0 * ratio, 1.0)
    assert config.max_context == 1048576


CHATGLM_6B: dict[str, Any] = {
    "_name_or_path": "THUDM/chatglm-6b",
    "architectures": ["ChatGLMModel"],
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "mask_token_id": 130000,
    "gmask_token_id": 130001,
    "pad_token_id": 3,
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "layernorm_epsilon": 1e-05,
    "max_sequence_length": 2048,
    "model_type": "chatglm",
    "num_attention_heads": 32,
    "num_layers": 28,
    "position_encoding_2d": True,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 130528,
}


class TestFirstGeneration:
    def test_as_published(self, tmp_path: Path) -> None:
        config = read_model_config(write(tmp_path, CHATGLM_6B))
        assert config.model_type == "chatglm-6b"
        assert (config.vocab_size, config.ffn_size, config.max_context) == (130528, 16384, 2048)
        assert (config.num_heads, config.num_kv_heads, config.head_dim) == (32, 32, 128)
        assert (config.rope.dim, config.rope.axes) == (64, 2)
        assert config.prompt_marks == PromptMarks(130001, 130000, 130004)
        assert config.eos_token_ids == (130005,)
        assert config.unknown_fields == ()

    @pytest.mark.parametrize("bits", [4, 8])
    def test_quantised(self, tmp_path: Path, bits: int) -> None:
        assert read_model_config(write(tmp_path, CHATGLM_6B, quantization_bit=bits)).stored_bits

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("gmask_token_id", "absent", "gmask_token_id is missing"),
            ("position_encoding_2d", False, "always has two positions"),
            ("quantization_embeddings", True, "only linear weights may be quantised"),
            ("pre_seq_len", 128, "--ptuning-checkpoint"),
            ("num_attention_heads", 3000, "does not divide 4096 into pairs"),
        ],
    )
    def test_refusals(self, tmp_path: Path, field: str, value: Any, said: str) -> None:
        with pytest.raises(CheckpointError, match=said):
            read_model_config(write(tmp_path, CHATGLM_6B, **{field: value}))


class TestPrefix:
    def test_beside_its_model(self, tmp_path: Path) -> None:
        base, tuned = tmp_path / "base", tmp_path / "tuned"
        base.mkdir()
        tuned.mkdir()
        write(base, CHATGLM2)
        write(tuned, CHATGLM2, pre_seq_len=128, prefix_projection=True)
        assert read_model_config(base).prefix_length == 0
        config = read_model_config(base, None, str(tuned))
        assert config.prefix == PrefixConfig(tuned, 128, projection=True)
        assert config.prefix_length == 128
        with pytest.raises(CheckpointError, match="name that by --checkpoint, and this by"):
            read_model_config(tuned)
        with pytest.raises(CheckpointError, match="no P-Tuning v2 checkpoint"):
            read_model_config(base, None, str(base))
        with pytest.raises(CheckpointError, match="nothing: no such file or folder"):
            read_model_config(base, None, str(tmp_path / "nothing"))


def test_unknown_fields_are_reported(tmp_path: Path) -> None:
    config = read_model_config(write(tmp_path, CHATGLM2, my_own_trick=True))
    assert config.unknown_fields == ("my_own_trick",)


def test_a_weights_file_finds_the_config_beside_it(tmp_path: Path) -> None:
    write(tmp_path, CHATGLM2)
    weights = tmp_path / "model.safetensors"
    weights.touch()
    assert read_model_config(weights).num_layers == 28
