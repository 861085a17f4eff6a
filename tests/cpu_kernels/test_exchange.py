"""Ranks exchange numbers through a file that all of them map."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmserve_cpu_kernels.exchange import Channel, Exchange
from support.native import native_library

SIZES = [1, 7, 65536, 65537, 200_000]
"""Numbers of float32: less than a piece, a whole one, several."""


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_all_get_all(tmp_path: Path, ranks: int) -> None:
    library = native_library()

    def rank(number: int) -> list[list[Tensor]]:
        end = Exchange(library, tmp_path / "shared", number, ranks)
        return [end.gather(torch.full((size,), float(number))) for size in SIZES]

    with ThreadPoolExecutor(ranks) as threads:
        for found in threads.map(rank, range(ranks)):
            for size, parts in zip(SIZES, found, strict=True):
                assert len(parts) == ranks
                for number, part in enumerate(parts):
                    assert part.equal(torch.full((size,), float(number)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_any_dtype_and_shape(tmp_path: Path, dtype: torch.dtype) -> None:
    library = native_library()
    numbers = torch.arange(24).to(dtype).view(2, 3, 4)

    def rank(number: int) -> list[Tensor]:
        end = Exchange(library, tmp_path / "shared", number, 2)
        return end.gather((numbers * (number + 1)).transpose(0, 2))

    with ThreadPoolExecutor(2) as threads:
        for first, second in threads.map(rank, range(2)):
            assert first.equal(numbers.transpose(0, 2))
            assert second.equal((numbers * 2).transpose(0, 2))


PROGRAM = """
import sys, torch
from pathlib import Path
from glmserve_cpu_kernels.exchange import Exchange
from glmserve_cpu_kernels.library import load
rank = int(sys.argv[2])
end = Exchange(load(), Path(sys.argv[1]), rank, 2)
for i in range(3000):
    mine = torch.tensor([rank, i])
    for other, part in enumerate(end.gather(mine)):
        assert part.tolist() == [other, i]
"""


@pytest.mark.slow
def test_thousands_of_rounds_of_processes(tmp_path: Path) -> None:
    native_library()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "shared")]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]


def test_a_channel_keeps_order_and_sizes(tmp_path: Path) -> None:
    """Several pieces at once, none, and more in all than it holds."""
    library = native_library()
    sizes = [*SIZES, 0, *[300_000] * 60]
    numbers = [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in sizes]

    def send() -> None:
        end = Channel(library, tmp_path / "shared")
        for x in numbers:
            end.send(x)

    def receive() -> list[Tensor]:
        end = Channel(library, tmp_path / "shared")
        return [end.receive(torch.empty(size)) for size in sizes]

    with ThreadPoolExecutor(2) as threads:
        sent, found = threads.submit(send), threads.submit(receive)
        for x, other in zip(numbers, found.result(60), strict=True):
            assert x.equal(other)
        sent.result(60)


def test_a_sender_goes_on_before_anything_is_received(tmp_path: Path) -> None:
    end = Channel(native_library(), tmp_path / "shared")
    for number in range(3):
        end.send(torch.full((2, 512, 2048), float(number)))  # 8 MiB
    for number in range(3):
        found = end.receive(torch.empty(2, 512, 2048))
        assert found.eq(number).all()


SENDER = """
import sys, torch
from pathlib import Path
from glmserve_cpu_kernels.exchange import Channel
from glmserve_cpu_kernels.library import load
end, is_sender = Channel(load(), Path(sys.argv[1])), sys.argv[2] == "0"
for i in range(3000):
    if is_sender:
        end.send(torch.tensor([i, -i]))
    else:
        assert end.receive(torch.empty(2, dtype=torch.int64)).tolist() == [i, -i]
"""


@pytest.mark.slow
def test_thousands_of_messages_between_processes(tmp_path: Path) -> None:
    native_library()
    command = [sys.executable, "-c", SENDER, str(tmp_path / "shared")]
    processes = [subprocess.Popen([*command, str(end)]) for end in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
