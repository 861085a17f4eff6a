"""Tensors of safetensors files: those that the library would read, and nothing stays of them."""

from __future__ import annotations

import gc
import json
import struct
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmserve.errors import CheckpointError
from glmserve.models.checkpoint_files import read_tensors

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    *(torch.bool, torch.uint64, torch.uint32, torch.uint16, torch.complex64),
    *(torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
)


def write(path: Path, header: dict[str, object], data: bytes, padding: int = 0) -> Path:
    text = json.dumps(header).encode() + b" " * padding
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_every_dtype(tmp_path: Path) -> None:
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    found = dict(read_tensors(path))
    for name, want in load_file(path).items():
        assert found[name].dtype == want.dtype
        assert found[name].shape == want.shape
        assert found[name].reshape(-1).view(torch.uint8).tolist() == (
            want.reshape(-1).view(torch.uint8).tolist()
        ), name


@pytest.mark.parametrize("padding", range(8))
def test_numbers_may_be_anywhere(tmp_path: Path, padding: int) -> None:
    header = {"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}
    path = write(tmp_path / "x.safetensors", header, struct.pack("<d", 1.5), padding)
    assert dict(read_tensors(path))["x"].tolist() == [1.5]


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    header = {"x": {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}}
    path = write(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(CheckpointError, match="x: its dtype F4 is not read"):
        list(read_tensors(path))


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, 2),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, 8),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F32"}, 4),
        ([], 4),
    ],
)
def test_a_header_that_does_not_fit_the_data(tmp_path: Path, entry: object, size: int) -> None:
    path = write(tmp_path / "x.safetensors", {"x": entry}, bytes(size))
    with pytest.raises(CheckpointError, match="damaged or truncated safetensors file"):
        list(read_tensors(path))


def test_a_header_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")
    with pytest.raises(CheckpointError, match="damaged or truncated safetensors file"):
        list(read_tensors(tmp_path / "x.safetensors"))


def test_nothing_stays_of_files_that_were_read(tmp_path: Path) -> None:
    """Workers load thousands of adapters."""
    path = tmp_path / "adapter_model.safetensors"
    save_file({f"x{i}": torch.zeros(1000 + i, 1) for i in range(50)}, path)

    def read() -> int:
        for _ in range(20):
            list(read_tensors(path))
        gc.collect()
        return sys.getallocatedblocks()

    read()
    before = read()
    assert read() - before < 500
