"""Reading checkpoints: every format gives the same parameters, every fault one clear line."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glmserve.config import LoadProgress, report_nothing
from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from glmserve.models.parameters import Parameters
from glmserve.models.weights import load_weights
from support.tiny_models import BASE, random_weights, write_checkpoint

CPU = torch.device("cpu")
QKV = "transformer.encoder.layers.1.self_attention.query_key_value.weight"

Weights = dict[str, torch.Tensor]


def load(path: Path, dtype: torch.dtype = torch.float32) -> Parameters:
    config = read_model_config(path)
    return dict(load_weights(config, path, dtype, CPU, report_nothing))


def refusal(path: Path) -> str:
    """The one line that explains why `path` cannot be loaded."""
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert "\n" not in error.value.message
    return error.value.message


def halves(weights: Weights) -> list[Weights]:
    names = sorted(weights)
    return [{n: weights[n] for n in names[i::2]} for i in range(2)]


def write_shards(
    folder: Path, weights: Weights, pattern: str, save: Callable[[Weights, Path], None]
) -> Path:
    """Two files and their index; returns the index."""
    weight_map = {}
    for i, part in enumerate(halves(weights), 1):
        name = pattern.format(i)
        save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    stem = "model.safetensors" if pattern.endswith("safetensors") else "pytorch_model.bin"
    index = folder / f"{stem}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def save_legacy(weights: Weights, path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


@pytest.fixture
def weights() -> Weights:
    return random_weights(BASE)


@pytest.fixture
def folder(tmp_path: Path, weights: Weights) -> Path:
    """A sound checkpoint."""
    return write_checkpoint(tmp_path, BASE, weights)


@pytest.fixture
def bare(folder: Path) -> Path:
    """A checkpoint without its weights."""
    (folder / "model.safetensors").unlink()
    return folder


class TestFormats:
    def same(self, folder: Path, expected: Parameters) -> None:
        loaded = load(folder)
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)

    @pytest.mark.parametrize("save", [torch.save, save_legacy])
    def test_single_bin(
        self, folder: Path, weights: Weights, save: Callable[[Weights, Path], None]
    ) -> None:
        expected = load(folder)
        (folder / "model.safetensors").unlink()
        save(weights, folder / "pytorch_model.bin")
        self.same(folder, expected)

    @pytest.mark.parametrize(
        ("pattern", "save"),
        [
            ("model-0000{}-of-00002.safetensors", save_file),
            ("pytorch_model-0000{}-of-00002.bin", torch.save),
        ],
    )
    def test_shards(
        self,
        folder: Path,
        weights: Weights,
        pattern: str,
        save: Callable[[Weights, Path], None],
    ) -> None:
        expected = load(folder)
        (folder / "model.safetensors").unlink()
        write_shards(folder, weights, pattern, save)
        self.same(folder, expected)

    @pytest.mark.parametrize("name", ["other-name.safetensors", "consolidated.bin", "weights.pt"])
    def test_one_file_given_directly(self, folder: Path, weights: Weights, name: str) -> None:
        expected = load(folder)
        (folder / "model.safetensors").unlink()
        save = save_file if name.endswith("safetensors") else torch.save
        save(weights, folder / name)
        self.same(folder / name, expected)

    def test_safetensors_are_preferred(self, folder: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(b"not to be read")
        load(folder)

    @pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
    def test_cast(
        self, tmp_path: Path, weights: Weights, stored: torch.dtype, wanted: torch.dtype
    ) -> None:
        weights = {name: w.to(stored) for name, w in weights.items()}
        parameter = load(write_checkpoint(tmp_path, BASE, weights), wanted)["layers.1.qkv.weight"]
        assert parameter.dtype == wanted
        assert torch.equal(parameter, weights[QKV].to(wanted))

    def test_rotary_buffers_are_ignored(self, tmp_path: Path, weights: Weights) -> None:
        weights["transformer.rotary_pos_emb.inv_freq"] = torch.zeros(2)
        load(write_checkpoint(tmp_path, BASE, weights))

    def test_progress(self, folder: Path) -> None:
        calls: list[LoadProgress] = []
        config = read_model_config(folder)
        parameters = dict(load_weights(config, folder, torch.bfloat16, CPU, calls.append))
        total = sum(p.nbytes for p in parameters.values())
        assert calls[0] == ("weights", 0, total)
        assert calls[-1] == ("weights", total, total)
        assert calls == sorted(calls)


class TestFaults:
    def test_no_weights(self, bare: Path) -> None:
        message = refusal(bare)
        assert str(bare) in message
        assert "model.safetensors" in message

    def test_not_a_weights_file(self, folder: Path) -> None:
        (folder / "notes.txt").write_text("hello")
        assert "notes.txt" in refusal(folder / "notes.txt")

    def test_missing_tensor(self, folder: Path, weights: Weights) -> None:
        del weights[QKV]
        write_checkpoint(folder, BASE, weights)
        message = refusal(folder)
        assert "model.safetensors" in message
        assert QKV in message
        assert "[64, 32]" in message

    def test_unexpected_tensor(self, folder: Path, weights: Weights) -> None:
        write_checkpoint(folder, BASE, {**weights, "transformer.extra.weight": torch.zeros(3)})
        message = refusal(folder)
        assert "model.safetensors" in message
        assert "transformer.extra.weight" in message

    def test_more_layers_than_the_configuration(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({**BASE, "num_layers": 1}))
        assert "transformer.encoder.layers.1." in refusal(folder)

    def test_shape(self, folder: Path, weights: Weights) -> None:
        write_checkpoint(folder, BASE, {**weights, QKV: torch.zeros(64, 33)})
        message = refusal(folder)
        for part in ("model.safetensors", QKV, "[64, 32]", "[64, 33]"):
            assert part in message

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
    def test_not_floating_point(self, folder: Path, weights: Weights, dtype: torch.dtype) -> None:
        write_checkpoint(folder, BASE, {**weights, QKV: torch.zeros(64, 32).to(dtype)})
        message = refusal(folder)
        for part in ("model.safetensors", QKV, "floating point", str(dtype)[6:]):
            assert part in message

    @pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_truncated(self, bare: Path, weights: Weights, name: str, keep: float) -> None:
        path = bare / name
        (save_file if name.endswith("safetensors") else torch.save)(weights, path)
        data = path.read_bytes()
        path.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
        assert str(path) in refusal(bare)

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    @pytest.mark.parametrize("data", [b"\xff" * 500, b"<html>not found</html>", b"\0" * 64])
    def test_garbage(self, bare: Path, name: str, data: bytes) -> None:
        (bare / name).write_bytes(data)
        assert str(bare / name) in refusal(bare)

    def test_git_lfs_pointer(self, bare: Path) -> None:
        (bare / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        )
        assert "git lfs pull" in refusal(bare)

    def test_pickle_that_runs_code(self, bare: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return exec, ("raise SystemExit('code was run')",)

        torch.save({"a": Evil()}, bare / "pytorch_model.bin", pickle_module=pickle)
        assert "pytorch_model.bin" in refusal(bare)

    @pytest.mark.parametrize("value", [[1, 2], {"a": 1}])
    def test_pickle_without_tensors(self, bare: Path, value: object) -> None:
        torch.save(value, bare / "pytorch_model.bin")
        assert "pytorch_model.bin" in refusal(bare)


class TestIndexFaults:
    PATTERN = "model-0000{}-of-00002.safetensors"

    @pytest.fixture
    def index(self, bare: Path, weights: Weights) -> Path:
        return write_shards(bare, weights, self.PATTERN, save_file)

    def change(self, index: Path, tensor: str, file: object) -> None:
        data = json.loads(index.read_text())
        data["weight_map"][tensor] = file
        index.write_text(json.dumps(data))

    def test_absent_shard(self, index: Path) -> None:
        (index.parent / self.PATTERN.format(2)).unlink()
        message = refusal(index.parent)
        assert self.PATTERN.format(2) in message
        assert "transformer." in message

    @pytest.mark.parametrize(
        "file", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 7, "a\\b.bin"]
    )
    def test_file_elsewhere(self, index: Path, file: object) -> None:
        self.change(index, QKV, file)
        message = refusal(index.parent)
        assert index.name in message
        assert QKV in message

    def test_tensor_not_in_its_shard(self, index: Path) -> None:
        self.change(index, "transformer.output_layer.extra", self.PATTERN.format(1))
        message = refusal(index.parent)
        assert self.PATTERN.format(1) in message
        assert "transformer.output_layer.extra" in message

    def test_tensor_in_both_shards(self, index: Path, weights: Weights) -> None:
        for i, part in enumerate(halves(weights), 1):
            save_file({**part, QKV: weights[QKV]}, index.parent / self.PATTERN.format(i))
        message = refusal(index.parent)
        assert self.PATTERN.format(2) in message
        assert QKV in message

    @pytest.mark.parametrize("text", ["{}", "[]", '{"weight_map": []}', "{", ""])
    def test_broken_index(self, index: Path, text: str) -> None:
        index.write_text(text)
        assert index.name in refusal(index.parent)


@pytest.mark.parametrize("form", ["safetensors", "bin", "legacy"])
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path, form: str) -> None:
    """Libraries in Rust and C++ take only paths in UTF-8."""
    weights = random_weights(BASE)
    folder = write_checkpoint(tmp_path / "plain", BASE, weights)
    if form != "safetensors":
        (folder / "model.safetensors").unlink()
        zipped = form == "bin"
        path = folder / "pytorch_model.bin"
        torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    expected = load(folder)
    found = load(folder.rename(tmp_path / os.fsdecode(b"\xc4\xa3\xd0\xcd")))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
