"""Checkpoints that were made to break their reader: each is refused in one line, and nothing runs,
hangs or fills memory."""

from __future__ import annotations

import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import report_nothing
from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from glmserve.model_config.reader import read_json_object
from glmserve.models.weights import load_weights
from glmserve.text import load_tokenizer
from support.tiny_models import BASE, random_weights, write_checkpoint

EMBEDDING = "transformer.embedding.word_embeddings.weight"
Header = dict[str, Any]

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    return write_checkpoint(tmp_path, BASE, random_weights(BASE))


@pytest.fixture
def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def refusal(folder: Path) -> str:
    """The one line that is said of the checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError) as error:
            config = read_model_config(folder)
            device = torch.device("cpu")
            list(load_weights(config, folder, torch.float32, device, report_nothing))
    message = error.value.message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 1000
    return message


class TestSafetensors:
    """The library checks most of this; that it does is what these tests hold."""

    def rewrite(self, path: Path, change: Callable[[Header], object], more: bytes = b"") -> None:
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        text = change(header)
        if not isinstance(text, bytes):
            text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :] + more)

    @pytest.mark.parametrize("size", [2**63, 2**40, 100_000_001])
    def test_a_header_of_any_size(self, weights: Path, size: int) -> None:
        weights.write_bytes(struct.pack("<Q", size) + b"{}")
        assert str(size) in refusal(weights.parent)

    @pytest.mark.parametrize(
        "fields",
        [
            {"data_offsets": [0, 10**12]},
            {"data_offsets": [10**12, 10**12 + 6144]},
            {"data_offsets": [6144, 0]},
            {"data_offsets": [-6144, 0]},
            {"data_offsets": [2**63, 2**63 + 6144]},
            {"data_offsets": [0]},
            {"shape": [1, 1]},
            {"shape": [-48, -32]},
            {"shape": [2**32, 2**32]},
            {"shape": [2**63, 2**63, 2**63]},
            {"shape": [0, 2**63]},
            {"shape": "x"},
            {"dtype": "F16"},
            {"dtype": "F99"},
            {"dtype": None},
        ],
    )
    def test_a_tensor_that_is_not_what_it_says(self, weights: Path, fields: Header) -> None:
        self.rewrite(weights, lambda header: header[EMBEDDING].update(fields))
        refusal(weights.parent)

    def test_overlapping_tensors(self, weights: Path) -> None:
        self.rewrite(weights, lambda header: header.update(more=header[EMBEDDING]))
        refusal(weights.parent)

    def test_bytes_that_belong_to_no_tensor(self, weights: Path) -> None:
        self.rewrite(weights, lambda header: None, more=b"\0" * 64)
        refusal(weights.parent)

    def test_a_tensor_that_is_described_twice(self, weights: Path) -> None:
        def twice(header: Header) -> bytes:
            again = json.dumps({EMBEDDING: header[EMBEDDING]})
            return (json.dumps(header)[:-1] + "," + again[1:]).encode()

        self.rewrite(weights, twice)
        assert "stored a second time" in refusal(weights.parent)

    def test_a_shape_that_stands_twice(self, weights: Path) -> None:
        def twice(header: Header) -> bytes:
            return json.dumps(header).replace('"shape"', '"shape": [1], "shape"', 1).encode()

        self.rewrite(weights, twice)
        assert "shape: stored a second time" in refusal(weights.parent)

    @pytest.mark.parametrize("text", [b"[" * 200_000, b"[]", b"null", b'{"a":' * 100_000, b"\xff"])
    def test_a_header_that_is_no_object(self, weights: Path, text: bytes) -> None:
        self.rewrite(weights, lambda header: text)
        refusal(weights.parent)


class Runs:
    """Pickled, it makes the reader create a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


class TestPickles:
    @pytest.fixture
    def file(self, folder: Path, weights: Path) -> Path:
        weights.unlink()
        return folder / "pytorch_model.bin"

    def test_code(self, file: Path) -> None:
        mark = file.parent / "mark"
        file.write_bytes(pickle.dumps({EMBEDDING: Runs(mark)}))
        assert "never loaded" in refusal(file.parent)
        torch.save({EMBEDDING: Runs(mark)}, file)
        assert "never loaded" in refusal(file.parent)
        assert not mark.exists()

    def test_compressed_parts(self, file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
            archive.writestr("archive/version", "3")
        assert "compressed" in refusal(file.parent)

    def test_a_claim_of_memory(self, file: Path) -> None:
        size = (10**12).to_bytes(6, "little")
        file.write_bytes(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + size + b"\x85R.")
        refusal(file.parent)

    def test_a_tensor_beyond_its_storage(self, file: Path) -> None:
        torch.save({EMBEDDING: torch.zeros(4)}, file)
        data = file.read_bytes()
        assert data.count(b"K\x04\x85") == 1  # the shape (4,)
        file.write_bytes(data.replace(b"K\x04\x85", b"K\xff\x85"))
        refusal(file.parent)

    def test_one_number_in_place_of_many(self, file: Path) -> None:
        """A stride of 0 makes a small file a large tensor; only the right shape is taken."""
        torch.save({EMBEDDING: torch.zeros(1).expand(10**6, 10**6)}, file)
        assert "expected shape [48, 32]" in refusal(file.parent)


class TestFiles:
    """What stands in a file's place: nothing waits for it, or reads it without end."""

    @staticmethod
    def pipe(path: Path) -> None:
        os.mkfifo(path)

    @staticmethod
    def endless(path: Path) -> None:
        path.symlink_to("/dev/zero")

    @staticmethod
    def folder(path: Path) -> None:
        path.mkdir()

    @staticmethod
    def huge(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(2**36)  # takes no space on the disk

    @staticmethod
    def circle(path: Path) -> None:
        path.symlink_to(path)

    MAKERS = (pipe, endless, folder, huge, circle)

    @pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_of_the_model(self, folder: Path, name: str, make: Callable[[Path], None]) -> None:
        (folder / name).unlink()
        make(folder / name)
        refusal(folder)

    @pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
    @pytest.mark.parametrize("name", ["ice_text.model", "tokenizer.model", "tokenizer.json"])
    def test_of_the_tokenizer(
        self, tmp_path: Path, name: str, make: Callable[[Path], None]
    ) -> None:
        make(tmp_path / name)
        with pytest.raises(CheckpointError) as error:
            load_tokenizer(tmp_path)
        assert "\n" not in error.value.message

    @pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
    def test_of_json(self, tmp_path: Path, make: Callable[[Path], None]) -> None:
        make(tmp_path / "x.json")
        with pytest.raises(CheckpointError):
            read_json_object(tmp_path / "x.json")

    def test_a_cache_of_links_is_served(self, folder: Path, tmp_path_factory: Any) -> None:
        """Hugging Face's cache: snapshots link to ../../blobs."""
        cache = tmp_path_factory.mktemp("cache")
        (cache / "blobs").mkdir()
        (cache / "snapshots" / "main").mkdir(parents=True)
        for number, name in enumerate(("config.json", "model.safetensors")):
            (folder / name).rename(cache / "blobs" / str(number))
            (cache / "snapshots" / "main" / name).symlink_to(f"../../blobs/{number}")
        snapshot = cache / "snapshots" / "main"
        config = read_model_config(snapshot)
        assert list(
            load_weights(config, snapshot, torch.float32, torch.device("cpu"), report_nothing)
        )


class TestConfig:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("num_layers", 10**9),
            ("hidden_size", 10**12),
            ("seq_length", 2**31),
            ("eos_token_id", 2**64),
            ("eos_token_id", [2, -1]),
            ("padded_vocab_size", 10**300),
            ("layernorm_epsilon", float("nan")),
            ("layernorm_epsilon", float("inf")),
            ("layernorm_epsilon", -1.0),
            ("rope_ratio", 1e300),
            ("kv_channels", 0),
            ("multi_query_group_num", 3),
            ("model_type", "x\n\x1b[31m" * 100_000),
            ("torch_dtype", {"a": [1] * 100_000}),
        ],
    )
    def test_numbers_of_no_model(self, folder: Path, field: str, value: object) -> None:
        (folder / "config.json").write_text(json.dumps({**BASE, field: value}))
        refusal(folder)

    @pytest.mark.parametrize(
        "text", ["null", "[]", '{"a":' * 100_000, "[" * 100_000, '{"num_layers": ' + "9" * 5000]
    )
    def test_json_of_no_model(self, folder: Path, text: str) -> None:
        (folder / "config.json").write_text(text)
        refusal(folder)

    def test_a_number_beyond_all_numbers(self, folder: Path) -> None:
        text = json.dumps(BASE).replace("1e-05", "1e400")
        (folder / "config.json").write_text(text)
        assert "layernorm_epsilon" in refusal(folder)
