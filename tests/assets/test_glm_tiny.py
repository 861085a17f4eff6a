"""The embedded checkpoint is complete, small and consistent with itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from safetensors.numpy import load_file

ASSETS = Path(__file__).resolve().parents[2] / "glmserve" / "assets"
MODEL = ASSETS / "glm-tiny"
FILES = {"config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"}
SPECIAL_TOKENS = 9
PROMPT = "[Round 1]\n\n问：什么是 KV cache？\n\n答："


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((MODEL / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return load_file(MODEL / "model.safetensors")


@pytest.fixture(scope="module")
def tokenizer() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(MODEL / "tokenizer.model"))


def expected_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of a ChatGLM2 checkpoint of this configuration."""
    vocab, hidden, ffn = (
        config[key] for key in ("padded_vocab_size", "hidden_size", "ffn_hidden_size")
    )
    query = config["num_attention_heads"] * config["kv_channels"]
    rows = query + 2 * config["multi_query_group_num"] * config["kv_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (vocab, hidden),
        "transformer.encoder.final_layernorm.weight": (hidden,),
        "transformer.output_layer.weight": (vocab, hidden),
    }
    for index in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{index}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.self_attention.query_key_value.weight": (rows, hidden),
            f"{layer}.self_attention.query_key_value.bias": (rows,),
            f"{layer}.self_attention.dense.weight": (hidden, query),
            f"{layer}.mlp.dense_h_to_4h.weight": (2 * ffn, hidden),
            f"{layer}.mlp.dense_4h_to_h.weight": (hidden, ffn),
        }
    return shapes


def test_files_and_total_size() -> None:
    assert {path.name for path in MODEL.iterdir()} == FILES
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 8_000_000


def test_config_is_chatglm2(config: dict) -> None:
    assert config["_name_or_path"] == "glmserve/glm-tiny"
    assert config["model_type"] == "chatglm"
    assert config["torch_dtype"] == "float16"
    assert config["eos_token_id"] == 2
    assert config["pad_token_id"] == 0
    assert config["seq_length"] == 2048
    assert config["multi_query_attention"]
    assert config["add_qkv_bias"]
    assert config["rmsnorm"]
    assert not config["add_bias_linear"]
    assert not config["tie_word_embeddings"]
    assert not config["apply_residual_connection_post_layernorm"]
    assert config["num_attention_heads"] % config["multi_query_group_num"] == 0
    assert "auto_map" not in config


def test_tensor_names_shapes_and_dtype(config: dict, tensors: dict[str, np.ndarray]) -> None:
    assert {name: tensor.shape for name, tensor in tensors.items()} == expected_shapes(config)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}


def test_weights_are_finite_and_not_trivial(tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        assert np.isfinite(tensor).all(), name
        assert np.any(tensor != tensor.flat[0]), name


def test_tokenizer_config_names_the_prompt_format() -> None:
    content = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert content["name_or_path"] == "glmserve/glm-tiny"
    assert content["tokenizer_class"] == "ChatGLMTokenizer"
    assert content["chat_format"] == "chatglm2"
    assert content["remove_space"] is False
    assert content["do_lower_case"] is False


def test_control_pieces(tokenizer: sentencepiece.SentencePieceProcessor) -> None:
    assert (tokenizer.unk_id(), tokenizer.bos_id(), tokenizer.eos_id()) == (0, 1, 2)
    assert tokenizer.pad_id() == -1
    assert [tokenizer.id_to_piece(i) for i in range(3)] == ["<unk>", "<s>", "</s>"]


def test_special_ids_fit_into_the_padded_vocabulary(
    config: dict, tokenizer: sentencepiece.SentencePieceProcessor
) -> None:
    assert tokenizer.get_piece_size() + SPECIAL_TOKENS <= config["padded_vocab_size"]
    for token in ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|user|>"):
        assert tokenizer.piece_to_id(token) == tokenizer.unk_id()


@pytest.mark.parametrize(
    "text",
    [
        "What is continuous batching?",
        "  two blanks,   three blanks ",
        "用 glmserve serve --checkpoint DIR 运行真正的模型。",
        "罕见字：龘靐齉",
        "emoji 🙂👩‍💻🇨🇳 and accents: naïve Ærø",
        "tabs\tand\nlines\r\nend",
        "numbers 1234567890",
        "<unk> </s> [gMASK] sop",
        "",
        PROMPT,
    ],
)
def test_tokenizer_round_trip(text: str, tokenizer: sentencepiece.SentencePieceProcessor) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.unk_id() not in ids
    assert tokenizer.decode(ids) == text


def test_digits_are_split(tokenizer: sentencepiece.SentencePieceProcessor) -> None:
    pieces = tokenizer.encode("2048", out_type=str)
    assert [piece for piece in pieces if piece != "▁"] == ["2", "0", "4", "8"]


def test_answers_follow_the_prompt_without_a_blank(
    tokenizer: sentencepiece.SentencePieceProcessor,
) -> None:
    prompt = tokenizer.encode(PROMPT)
    for answer in ("Hello!", "你好！", "1, 2, 3."):
        assert tokenizer.encode(PROMPT + answer)[: len(prompt)] == prompt
