"""The ring of page-locked buffers: nothing is overwritten while it may still be copied from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve.ops.packed_arrays import ArraySpec, StaticArrays, packed_bytes, upload_together
from glmserve.ops.uploads import DirectUploads, QueuedUploads
from support.emulated_gpu import CPU, WatchedMemory


class SlowMemory:
    """Notes what is asked of it, in order."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.notes: list[str] = []

    def allocate(self, num_bytes: int) -> Tensor:
        self.notes.append(f"allocate {num_bytes}")
        self.parts.append(torch.zeros(num_bytes, dtype=torch.uint8))
        return self.parts[-1]

    def mark(self) -> Callable[[], None]:
        number = sum(note.startswith("mark") for note in self.notes)
        self.notes.append(f"mark {number}")
        return lambda: self.notes.append(f"wait {number}")


def test_a_buffer_is_used_again_after_the_event_behind_its_step() -> None:
    memory = SlowMemory()
    uploads = QueuedUploads(CPU, memory, buffer_bytes=64)
    for number in range(5):
        uploads.next_step()
        uploads.send(np.full(8, number, dtype=np.uint8))
    assert memory.notes == [
        "mark 0",
        "allocate 64",
        "mark 1",
        "allocate 64",
        "mark 2",
        "wait 0",
        "allocate 64",
        "mark 3",
        "wait 1",
        "mark 4",
        "wait 2",
    ]


def test_a_large_step_gets_more_and_keeps_it_in_one_piece() -> None:
    memory = SlowMemory()
    uploads = QueuedUploads(CPU, memory, buffer_bytes=64)
    for _ in range(2):
        uploads.next_step()
        for size in (48, 32, 200):
            assert uploads.send(np.full(size, size, dtype=np.uint8)).tolist() == [size] * size
        uploads.next_step()
        uploads.next_step()
    sizes = [note for note in memory.notes if note.startswith("allocate")]
    assert sizes == ["allocate 64", "allocate 64", "allocate 200", "allocate 328"]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64, np.bool_])
def test_arrays_arrive_as_they_are(dtype: type[np.generic]) -> None:
    """Also where they are views of others, or empty."""
    uploads = QueuedUploads(CPU, WatchedMemory())
    array = np.arange(24).reshape(4, 6).astype(dtype)
    for part in (array, array[:, 1::2], array.T, array[:0], array[3]):
        sent = uploads.send(part)
        assert torch.equal(sent, torch.from_numpy(np.ascontiguousarray(part)))
        assert torch.equal(sent, DirectUploads(CPU).send(part.copy()))


def test_together() -> None:
    arrays = {
        "a": np.arange(3, dtype=np.int32),
        "none": np.zeros((0, 3), dtype=np.int32),
        "b": np.arange(6, dtype=np.float64).reshape(2, 3),
    }
    found = upload_together(arrays, QueuedUploads(CPU, WatchedMemory()))
    assert {name: t.tolist() for name, t in found.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert found["b"].data_ptr() % 16 == 0


def test_static_arrays_may_be_filled_again_at_once() -> None:
    uploads = QueuedUploads(CPU, WatchedMemory(), buffer_bytes=256)
    specs = {"a": ArraySpec((3,), "int32"), "b": ArraySpec((2, 2), "int64")}
    device = torch.zeros(packed_bytes(specs), dtype=torch.uint8)
    arrays = StaticArrays(specs, uploads, device)
    for number in range(7):
        uploads.next_step()
        arrays.host["a"][:], arrays.host["b"][:] = number, number + 1
        arrays.upload()
        arrays.host["a"][:] = -1
        assert arrays.device["a"].tolist() == [number] * 3
        assert arrays.device["b"].tolist() == [[number + 1] * 2] * 2


def test_the_watched_memory_finds_a_ring_that_does_not_wait() -> None:
    memory = WatchedMemory()
    uploads = QueuedUploads(CPU, memory, buffer_bytes=64)
    memory._done = lambda event: None  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="still copied from"):
        for number in range(1, 6):
            uploads.next_step()
            uploads.send(np.full(8, number, dtype=np.uint8))
