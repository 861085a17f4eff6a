"""Calls of kernels that are recorded, moved to other memory, and repeated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmserve_cpu_kernels import elementwise
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.linear import pack_floats
from glmserve_cpu_kernels.tape import Life, NotRecordableError, Tape, arrange, recording

lives = st.builds(
    lambda first, length, num_bytes: Life(first, first + length, num_bytes),
    st.integers(0, 20),
    st.integers(-1, 8),
    st.integers(0, 500),
)


@given(st.lists(lives, max_size=30))
def test_what_is_needed_at_the_same_time_is_apart(needed: list[Life]) -> None:
    offsets, total = arrange(needed)
    for i, (one, offset) in enumerate(zip(needed, offsets, strict=True)):
        assert offset % 64 == 0
        assert offset + one.num_bytes <= total
        for other, place in zip(needed[:i], offsets[:i], strict=True):
            together = one.first <= other.last and other.first <= one.last
            if together:
                assert offset + one.num_bytes <= place or place + other.num_bytes <= offset


def test_layers_one_after_the_other_share_memory() -> None:
    chain = [Life(i, i + 1, 64) for i in range(100)]
    assert arrange(chain)[1] == 128


def network(library: Library, layers: int = 5) -> Callable[[torch.Tensor], torch.Tensor]:
    """Some layers with a residual that is overwritten, as in a model."""
    torch.manual_seed(1)
    weights = [pack_floats(library, torch.randn(64, 32)) for _ in range(layers)]
    norm = torch.randn(32)

    def compute(residual: torch.Tensor) -> torch.Tensor:
        addend = None
        for weight in weights:
            normed = elementwise.rms_norm(library, addend, residual, norm, 1e-5)
            addend = elementwise.silu_and_mul(library, weight(normed.view(-1, 32)))
        return elementwise.rms_norm(library, addend, residual, norm, 1e-5)

    return compute


def test_a_tape_computes_the_same_bits_for_other_inputs(any_library: Library) -> None:
    compute, x = network(any_library), torch.randn(3, 32)
    static = x.clone()
    with recording(any_library) as found:
        first = compute(static)
    assert torch.equal(first, compute(x.clone()))
    tape = Tape(any_library, found, first)
    memory = torch.empty(tape.num_bytes, dtype=torch.uint8)
    result = tape.use(memory)
    found.memory.clear()
    for _ in range(3):
        x = torch.randn(3, 32)
        memory.view(torch.float32).fill_(float("nan"))
        static.copy_(x)
        tape.replay()
        assert torch.equal(result, compute(x.clone()))


def test_memory_is_shared(any_library: Library) -> None:
    """Twenty layers need no more than five."""
    sizes = []
    for layers in (5, 20):
        compute, x = network(any_library, layers), torch.randn(3, 32)
        with recording(any_library) as found:
            result = compute(x)
        sizes.append(Tape(any_library, found, result).num_bytes)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x + 1,
        lambda x: x.mul_(2),
        lambda x: x.t().contiguous(),
        lambda x: torch.nn.functional.layer_norm(x, (32,)),
        lambda x: x[[0]],
        lambda x: x[0, 0].item(),
        lambda x: torch.zeros(3),
    ],
    ids=["sum", "in place", "copy", "layer norm", "gather", "read", "written"],
)
def test_other_operations_are_not_recorded(
    any_library: Library, compute: Callable[[torch.Tensor], object]
) -> None:
    x = torch.randn(3, 32)
    functions = any_library.functions
    with torch.inference_mode(), pytest.raises(NotRecordableError), recording(any_library):
        compute(x)
    assert any_library.functions is functions


def test_views_and_memory_are_allowed(any_library: Library) -> None:
    x = torch.randn(4, 32)
    with torch.inference_mode(), recording(any_library) as found:
        torch.empty_like(x)
        x.new_empty((3, 3))
        x.view(-1, 8).flatten(1)[1:, 2:].unsqueeze(0)
    assert [tuple(taken.shape) for taken in found.memory] == [(4, 32), (3, 3)]
    assert found.calls == []


def test_calls_of_other_threads_are_not_recorded(any_library: Library) -> None:
    x, weight = torch.randn(3, 64), torch.randn(8, 64)
    with recording(any_library) as found, ThreadPoolExecutor(1) as other:
        packed = other.submit(pack_floats, any_library, weight).result()
        product = other.submit(packed, x).result()
    assert found.calls == []
    assert torch.equal(product, packed(x))


def test_recording_imports_no_compiler() -> None:
    """torch's other way to watch operations would import its compiler, which takes seconds."""
    code = """
import sys, torch
from glmserve_cpu_kernels.library import load
from glmserve_cpu_kernels.tape import recording
with recording(load()) as found:
    torch.empty(3).view(3)
print(len(found.memory), "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
