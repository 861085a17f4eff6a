"""Every tensor of an adapter is used, or the adapter is refused by the tensor's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glmserve.adapters import LoraConfig, read_adapter_config
from glmserve.errors import AdapterError
from glmserve.model_config import read_model_config
from glmserve.models.lora import WholeLora, read_lora_weights
from support.lora import lora_tensors, random_adapter, write_adapter
from support.tiny_models import BASE, random_weights, write_checkpoint

LAYERS = "base_model.model.transformer.encoder.layers"
DENSE = f"{LAYERS}.1.self_attention.dense"
Change = Callable[[dict[str, Tensor]], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base"), BASE, random_weights(BASE))


def read(base: Path, folder: Path) -> WholeLora:
    lora = read_adapter_config(folder)
    assert isinstance(lora, LoraConfig)
    return read_lora_weights(lora, read_model_config(base, None))


def put(name: str, *shape: int) -> Change:
    return lambda tensors: tensors.__setitem__(name, torch.ones(shape))


def drop(name: str) -> Change:
    return lambda tensors: tensors.__delitem__(name)


def rename(old: str, new: str) -> Change:
    return lambda tensors: tensors.__setitem__(new, tensors.pop(old))


def spoil(name: str) -> Change:
    return lambda tensors: tensors[name].view(-1)[3:4].fill_(torch.nan)


REFUSED: dict[str, tuple[Change, str, str]] = {
    "output layer": (
        put("base_model.model.transformer.output_layer.lora_A.weight", 4, 32),
        r"transformer\.output_layer\.lora_A\.weight",
        "only linear modules of layers",
    ),
    "embedding": (
        put("base_model.model.transformer.embedding.word_embeddings.lora_embedding_A", 4, 48),
        r"word_embeddings\.lora_embedding_A",
        "LoRA of an embedding",
    ),
    "saved module": (
        put("base_model.model.transformer.output_layer.modules_to_save.weight", 48, 32),
        r"output_layer\.modules_to_save\.weight",
        "a whole module was trained",
    ),
    "weight of the model": (
        put(f"{DENSE}.base_layer.weight", 32, 32),
        r"dense\.base_layer\.weight",
        "weights of the model itself",
    ),
    "bias that none has asked for": (
        put(f"{LAYERS}.0.self_attention.query_key_value.base_layer.bias", 64),
        r"query_key_value\.base_layer\.bias",
        "says that none was trained",
    ),
    "unknown": (put("something", 3), "something", "does not know this tensor"),
    "unknown module": (
        put(f"{LAYERS}.0.mlp.experts.lora_A.weight", 4, 32),
        r"experts\.lora_A\.weight",
        "the model has no such module; it has ",
    ),
    "too many layers": (
        put(f"{LAYERS}.2.self_attention.dense.lora_A.weight", 4, 32),
        r"layers\.2\.self_attention\.dense",
        "the model has 2 layers",
    ),
    "module that the config does not name": (
        put("base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight", 4, 32),
        r"o_proj\.lora_A\.weight",
        r"adapter_config\.json does not name this module",
    ),
    "A alone": (drop(f"{DENSE}.lora_B.weight"), r"dense\.lora_B\.weight", "missing"),
    "B alone": (drop(f"{DENSE}.lora_A.weight"), r"dense\.lora_A\.weight", "missing"),
    "a module that is missing": (
        lambda tensors: [drop(f"{DENSE}.lora_{half}.weight")(tensors) for half in "AB"],  # type: ignore[return-value]
        r"layers\.1\.self_attention\.dense",
        "has no tensors, but",
    ),
    "another rank": (
        put(f"{DENSE}.lora_A.weight", 5, 32),
        r"dense\.lora_A\.weight",
        r"expected \[4, 32\], found \[5, 32\]; it was trained on THUDM/chatglm3-6b",
    ),
    "another model's": (
        put(f"{DENSE}.lora_B.weight", 64, 4),
        r"dense\.lora_B\.weight",
        r"expected \[32, 4\], found \[64, 4\]",
    ),
    "DoRA that the config does not know": (
        put(f"{DENSE}.lora_magnitude_vector", 32),
        r"lora_magnitude_vector\.weight",
        "says nothing of it",
    ),
    "bias of A": (put(f"{DENSE}.lora_A.bias", 4), r"lora_A\.bias", "says nothing of it"),
    "bias of B": (put(f"{DENSE}.lora_B.bias", 32), r"lora_B\.bias", "says nothing of it"),
    "a second adapter": (
        rename(f"{DENSE}.lora_A.weight", f"{DENSE}.lora_A.other.weight"),
        r"lora_A\.other\.weight|dense_4h_to_h\.lora_A\.weight",
        "of a second adapter",
    ),
    "NaN": (spoil(f"{DENSE}.lora_B.weight"), r"dense\.lora_B\.weight", "not finite"),
    "integers": (
        lambda tensors: tensors.__setitem__(f"{DENSE}.lora_B.weight", torch.ones(32, 4).char()),
        r"dense\.lora_B\.weight",
        "expected floating point numbers, found torch.int8",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, base: Path, case: str) -> None:
    change, name, reason = REFUSED[case]
    tensors = lora_tensors(BASE)
    change(tensors)
    with pytest.raises(AdapterError, match=rf"adapter_model\.safetensors: .*({name}).*{reason}"):
        read(base, write_adapter(tmp_path, tensors))


def test_nothing_in_it(tmp_path: Path, base: Path) -> None:
    with pytest.raises(AdapterError, match="holds no LoRA weights"):
        read(base, write_adapter(tmp_path, {}))


def test_damaged_weights(tmp_path: Path, base: Path) -> None:
    random_adapter(tmp_path, BASE)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(AdapterError, match="damaged or truncated"):
        read(base, tmp_path)


def test_code_is_never_run(tmp_path: Path, base: Path) -> None:
    import pickle

    random_adapter(tmp_path, BASE)
    (tmp_path / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps({"a": Path}))
    with pytest.raises(AdapterError, match="holding more than tensors, which is never loaded"):
        read(base, tmp_path)


def test_the_same_rows_twice(tmp_path: Path, base: Path) -> None:
    tensors = lora_tensors(BASE, targets=["dense_h_to_4h"], layers=[0])
    layer = "base_model.model.model.layers.0.mlp.gate_proj"
    tensors |= {f"{layer}.lora_A.weight": torch.ones(4, 32)}
    tensors |= {f"{layer}.lora_B.weight": torch.ones(40, 4)}
    settings = {"target_modules": ["dense_h_to_4h", "gate_proj"], "layers_to_transform": [0]}
    with pytest.raises(AdapterError, match="changes the same rows"):
        read(base, write_adapter(tmp_path, tensors, **settings))


@pytest.mark.parametrize(
    "prefix",
    [
        "transformer.encoder.layers",
        "base_model.model.transformer.encoder.layers",
        "module.base_model.model.transformer.encoder.layers",
        "_orig_mod.base_model.model.encoder.layers",
        "base_model.model.layers",
    ],
)
@pytest.mark.parametrize("name", ["", ".default", ".chatglm"])
def test_what_trainers_put_into_names(tmp_path: Path, base: Path, prefix: str, name: str) -> None:
    want = read(base, random_adapter(tmp_path / "usual", BASE))
    tensors = {
        key.replace(".weight", f"{name}.weight"): tensor
        for key, tensor in lora_tensors(BASE, prefix=prefix).items()
    }
    got = read(base, write_adapter(tmp_path / "other", tensors, r=4, lora_alpha=8))
    assert got.modules.keys() == want.modules.keys()
    assert len(got.modules) == 8
    for module, lora in want.modules.items():
        assert torch.equal(got.modules[module].a, lora.a)
        assert torch.equal(got.modules[module].b, lora.b)


def test_bin_files_hold_the_same(tmp_path: Path, base: Path) -> None:
    """As PEFT wrote them before safetensors; float16 as some trainers do."""
    tensors = {name: tensor.half() for name, tensor in lora_tensors(BASE).items()}
    folder = write_adapter(tmp_path, tensors)
    want = read(base, folder)
    (folder / "adapter_model.safetensors").unlink()
    torch.save(tensors, folder / "adapter_model.bin")
    got = read(base, folder)
    assert all(torch.equal(got.modules[m].b, lora.b) for m, lora in want.modules.items())


def test_files_beside_it_are_ignored(tmp_path: Path, base: Path) -> None:
    """What LLaMA-Factory, ms-swift and transformers' Trainer leave in such a folder."""
    folder = random_adapter(tmp_path, BASE)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"not read")
    for name in ("trainer_state.json", "additional_config.json", "args.json", "README.md"):
        (folder / name).write_text("not read")
    save_file({"x": torch.ones(1)}, folder / "model.safetensors")
    assert len(read(base, folder).modules) == 8


@pytest.mark.parametrize(
    ("changed", "effect"), [({"scale": 0.0}, False), ({"scale": 0.1}, True)], ids=["zero", "not"]
)
def test_an_adapter_that_does_nothing_is_noticed(
    tmp_path: Path, base: Path, changed: dict[str, Any], effect: bool
) -> None:
    assert read(base, random_adapter(tmp_path, BASE, **changed)).has_effect == effect
