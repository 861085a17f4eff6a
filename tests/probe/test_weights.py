"""Whether a checkpoint is whole, told without reading the numbers."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmserve.model_config import read_model_config
from glmserve.probe.weights import look_at_weights
from support.tiny_models import BASE, random_weights, write_checkpoint

FOLDERS = ["glm2_base", "glm2_bin_sharded", "glm3_base_sharded_st", "glm1_int8", "glm2_int4"]


@pytest.mark.parametrize("name", FOLDERS)
def test_whole(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    found = look_at_weights(read_model_config(folder), folder)
    assert found.problem == ""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    assert (found.files, found.total_bytes) == (len(files), sum(f.stat().st_size for f in files))


def test_a_prefix(golden_models: Path) -> None:
    base, prefix = golden_models / "glm2_base", golden_models / "glm2_ptuning"
    model = read_model_config(base, None, str(prefix))
    assert look_at_weights(model, base).problem == ""
    other = read_model_config(golden_models / "glm2_mha", None, str(prefix))
    assert "another model's" in look_at_weights(other, golden_models / "glm2_mha").problem


def test_all_missing_files_are_named(golden_models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(golden_models / "glm2_bin_sharded", tmp_path / "copy"))
    first, second, *_ = sorted(folder.glob("*.bin"))
    first.unlink()
    second.unlink()
    problem = look_at_weights(read_model_config(folder), folder).problem
    assert "2 of 3 weight files are missing" in problem
    assert first.name in problem
    assert second.name in problem


@pytest.mark.parametrize("kind", ["missing", "shape", "surplus", "truncated", "none", "damaged"])
def test_what_is_wrong_is_named(tmp_path: Path, kind: str) -> None:
    folder = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "transformer.encoder.layers.1.mlp.dense_4h_to_h.weight"
    if kind == "missing":
        del weights[name]
    elif kind == "shape":
        weights[name] = weights[name].T.contiguous()
    elif kind == "surplus":
        name = weights["extra"] = torch.zeros(1)
        name = "extra"
    save_file(weights, path)
    said = name
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
        said = "truncated"
    elif kind == "damaged":
        path.write_bytes(b"\xff" * 100)
        said = "the header claims to have"
    elif kind == "none":
        path.unlink()
        said = "no weights"
    assert said in look_at_weights(read_model_config(folder), folder).problem


def test_numbers_are_not_read(tmp_path: Path) -> None:
    """A file of 8 GiB, all of it a hole, is looked through, and no page of it gets into memory."""
    large = {**BASE, "padded_vocab_size": 2**26}
    (tmp_path / "config.json").write_text(json.dumps(large))
    tensors, end = {}, 0
    for name, tensor in random_weights(BASE).items():
        shape = [2**26, 32] if "word_embeddings" in name or "output" in name else [*tensor.shape]
        size = 2 * torch.Size(shape).numel()
        tensors[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(tensors).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = look_at_weights(read_model_config(tmp_path), tmp_path)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found.problem == ""
    assert found.total_bytes > 2**33
    assert after - before < 2**20  # KiB
