"""adapter_config.json: each field is honoured, neutral, or refused by name. No torch is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmserve.adapters import LoraConfig, PrefixAdapterConfig, digest, read_adapter_config
from glmserve.errors import AdapterError
from support.forbidden import forbid

PEFT_020: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "THUDM/chatglm3-6b",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 32,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.20.0",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["query_key_value"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}
"""As PEFT 0.20 writes it."""

DENSE = "transformer.encoder.layers.1.self_attention.dense"
WIDE = "transformer.encoder.layers.0.mlp.dense_h_to_4h"


def write(folder: Path, **changes: Any) -> Path:
    fields = {**PEFT_020, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def read(folder: Path, **changes: Any) -> LoraConfig:
    config = read_adapter_config(write(folder, **changes))
    assert isinstance(config, LoraConfig)
    return config


def test_as_peft_writes_it(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert (config.kind, config.rank, config.alpha) == ("lora", 8, 32)
    assert config.scale_of(DENSE) == 4
    assert config.base_model == "THUDM/chatglm3-6b"
    assert not config.selection.includes(DENSE)
    assert config.selection.includes("transformer.encoder.layers.1.self_attention.query_key_value")


def test_as_ms_swift_and_old_peft_write_it(tmp_path: Path) -> None:
    fields = {
        "enable_lora": None,
        "merge_weights": False,
        "lora_dtype": None,
        "lorap_lr_ratio": 16.0,
        "lorap_emb_lr": 1e-06,
        "model_key_mapping": None,
        "use_merged_linear": False,
    }
    assert read(tmp_path, **fields).rank == 8


def test_patterns(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        rank_pattern={r"layers\.1\.self_attention\.dense": 2, "dense": 4},
        alpha_pattern={"mlp.dense_h_to_4h": 1.5},
    )
    assert (config.rank_of(DENSE), config.scale_of(DENSE)) == (2, 16)
    assert (config.rank_of(WIDE), config.scale_of(WIDE)) == (8, 1.5 / 8)
    assert config.largest_rank == 8


def test_rank_stabilised_scale(tmp_path: Path) -> None:
    config = read(tmp_path, use_rslora=True, r=16, rank_pattern={"dense": 4})
    assert config.scale_of(WIDE) == 8
    assert config.scale_of(DENSE) == 16


@pytest.mark.parametrize(
    ("fields", "included"),
    [
        ({"target_modules": ["dense"]}, [DENSE]),
        ({"target_modules": [WIDE, "nowhere"]}, [WIDE]),
        ({"target_modules": r".*\.(dense|dense_h_to_4h)"}, [DENSE, WIDE]),
        ({"target_modules": "dense"}, []),
        ({"target_modules": "all-linear"}, [DENSE, WIDE]),
        ({"target_modules": "ALL-LINEAR", "exclude_modules": ["dense"]}, [WIDE]),
        ({"target_modules": "all-linear", "exclude_modules": r".*\.0\..*"}, [DENSE]),
        ({"target_modules": ["dense", "dense_h_to_4h"], "layers_to_transform": 0}, [WIDE]),
        ({"target_modules": ["dense", "dense_h_to_4h"], "layers_to_transform": [1, 7]}, [DENSE]),
        (
            {"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": "layers"},
            [DENSE],
        ),
        ({"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": ["h"]}, []),
        ({"target_modules": None}, []),
    ],
)
def test_selection(tmp_path: Path, fields: dict[str, Any], included: list[str]) -> None:
    selection = read(tmp_path, **fields).selection
    assert [name for name in (DENSE, WIDE) if selection.includes(name)] == included


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [3]),
        ("target_parameters", ["mlp.experts"]),
        ("layer_replication", [[0, 4]]),
        ("alora_invocation_tokens", [1, 2]),
        ("use_qalora", True),
        ("use_bdlora", {"nblocks": 2}),
        ("arrow_config", {"top_k": 2}),
        ("monteclora_config", {"n": 1}),
        ("megatron_config", {"a": 1}),
        ("enable_lora", [True, False, True]),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"),
        ("task_type", "SEQ_CLS"),
        ("bias", "some"),
        ("r", 0),
        ("r", "8"),
        ("lora_alpha", "32"),
        ("lora_alpha", True),
        ("lora_alpha", 10**400),
        ("lora_alpha", float("nan")),
        ("alpha_pattern", {"dense": -(10**400)}),
        ("use_rslora", "yes"),
        ("rank_pattern", {"dense": 0}),
        ("rank_pattern", {"(": 4}),
        ("alpha_pattern", {"dense": None}),
        ("target_modules", "("),
        ("target_modules", [1]),
        ("a_field_of_the_future", 1),
        ("peft_type", "ADALORA"),
        ("peft_type", None),
    ],
)
def test_refused_by_name(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(AdapterError, match=rf"adapter_config\.json: {field}"):
        read(tmp_path, **{field: value})


def test_a_regular_expression_knows_no_layers(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"layers_to_transform = .*only with a list"):
        read(tmp_path, target_modules="dense", layers_to_transform=[1])


@pytest.mark.parametrize(
    "fields",
    [
        {"init_lora_weights": "gaussian"},
        {"fan_in_fan_out": True},
        {"ensure_weight_tying": True},
        {"loftq_config": {"loftq_bits": 4}},
        {"modules_to_save": []},
        {"task_type": None},
        {"task_type": "SEQ_2_SEQ_LM"},
        {"a_field_of_the_future": None},
        {"another": False},
    ],
)
def test_neutral(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert read(tmp_path, **fields).rank == 8


class TestFolders:
    def test_prefixes_are_told_apart(self, tmp_path: Path) -> None:
        fields = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 9}
        (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
        config = read_adapter_config(tmp_path)
        assert isinstance(config, PrefixAdapterConfig)
        assert (config.kind, config.length) == ("prefix-tuning", 9)
        official = tmp_path / "official"
        official.mkdir()
        (official / "config.json").write_text('{"pre_seq_len": 128}')
        assert read_adapter_config(official).kind == "p-tuning-v2"

    def test_what_is_no_adapter(self, tmp_path: Path) -> None:
        with pytest.raises(AdapterError, match="no such folder"):
            read_adapter_config(tmp_path / "nowhere")
        with pytest.raises(AdapterError, match=r"no adapter_config\.json"):
            read_adapter_config(tmp_path)
        (tmp_path / "default").mkdir()
        write(tmp_path / "default")
        with pytest.raises(AdapterError, match=f"did you mean {tmp_path}/default"):
            read_adapter_config(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(AdapterError, match="this is no adapter"):
            read_adapter_config(tmp_path)

    def test_of_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        forbid(monkeypatch, write(tmp_path))
        with pytest.raises(AdapterError, match="cannot be read: Permission denied"):
            read_adapter_config(tmp_path)

    def test_damaged_config(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{,")
        with pytest.raises(AdapterError, match=r"adapter_config\.json: not valid JSON"):
            read_adapter_config(tmp_path)


class TestDigest:
    def test_is_of_what_changes_answers(self, tmp_path: Path) -> None:
        weights = tmp_path / "adapter_model.safetensors"
        weights.write_bytes(b"one")
        first = digest(write(tmp_path, target_modules=["a", "b"]))
        assert len(first) == 64
        (tmp_path / "README.md").write_text("text")
        neutral = {"peft_version": "1", "inference_mode": False, "lora_dropout": 0.5}
        assert digest(write(tmp_path, target_modules=["b", "a"], **neutral)) == first
        changes = [{"r": 3}, {"lora_alpha": 3}, {"lora_alpha": 0}, {"use_rslora": True}]
        others = [digest(write(tmp_path, **change)) for change in changes]
        others.append(digest(write(tmp_path, rank_pattern={"a": 1, "b": 2})))
        others.append(digest(write(tmp_path, rank_pattern={"b": 2, "a": 1})))
        weights.write_bytes(b"two")
        others.append(digest(write(tmp_path, target_modules=["a", "b"])))
        assert len({first, *others}) == 8

    def test_without_weights(self, tmp_path: Path) -> None:
        with pytest.raises(AdapterError, match=r"no weights; expected adapter_model\.safetensors"):
            digest(write(tmp_path))

    def test_of_the_file_that_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_model.bin").write_bytes(b"old")
        (tmp_path / "adapter_model.safetensors").write_bytes(b"new")
        first = digest(write(tmp_path))
        (tmp_path / "adapter_model.bin").write_bytes(b"other")
        assert digest(tmp_path) == first
