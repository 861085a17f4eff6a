"""Memory of zeros that nothing has touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glmserve_cpu_kernels.zeros import release, untouched_zeros


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_it_takes_memory_where_it_is_written() -> None:
    before = resident()
    tensor = untouched_zeros((64, 2**20), torch.float32)  # 256 MiB
    assert resident() - before < 32 << 20
    tensor[3].fill_(1.0)
    assert resident() - before < 64 << 20
    assert tensor[2:5].sum() == 2**20
    before = resident()
    del tensor
    assert before - resident() > 2 << 20


def test_the_system_takes_back_what_is_released() -> None:
    tensor = untouched_zeros((64, 2**20), torch.uint8)
    tensor.fill_(7)
    before = resident()
    release(tensor, 48 * 2**20 + 100)
    assert before - resident() > 40 << 20
    assert not tensor[:48].any()
    assert (tensor[48:] == 7).all()
    tensor[0].fill_(3)
    assert tensor[:2].sum() == 3 * 2**20


def test_less_than_a_page_is_kept() -> None:
    tensor = untouched_zeros((100,), torch.uint8).fill_(7)
    release(tensor, 100)
    assert (tensor == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_it_is_as_torchs(dtype: torch.dtype) -> None:
    tensor = untouched_zeros((3, 0, 5), dtype)
    assert (tensor.shape, tensor.dtype) == ((3, 0, 5), dtype)
    tensor = untouched_zeros((3, 5, 7), dtype)
    assert torch.equal(tensor, torch.zeros(3, 5, 7, dtype=dtype))
    assert tensor.is_contiguous()
    assert tensor.data_ptr() % 64 == 0


def test_more_than_there_is() -> None:
    with pytest.raises(MemoryError, match="cannot allocate memory"):
        untouched_zeros((2**48,), torch.float32)
