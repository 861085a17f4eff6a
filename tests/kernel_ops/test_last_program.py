"""Programs that share a sum: it does not matter which of them ends last, and their counters are 0
for the next launch."""

from __future__ import annotations

import os

import pytest
import torch

from glmserve_kernels.operation import Case, Maker, Operation
from glmserve_kernels.registry import load
from glmserve_kernels.tiles import load_tiles
from kernel_arguments import tensors
from kernel_check import same_bits

SHARING = {
    "quantized_matmul": "int8-3x80x288+bias+splits3+padding8",
    "batch_invariant_matmul": "2x48x1100+bias+split+padding",
    "matmul_add": "16x130x1100+bias+padding",
    "norm_matmul_silu": "5x40x1100",
    "norm_matmul_rope": "16x1100-3+1x80-80-32+bias+padding",
    "paged_decode": "2/1x16-block16-257,30-pieces of 16",
    "batch_invariant_attention": "4/2x32-block16-0+1,16+17,0+0,99+1,-1+1,31+40",
}
"""A case of each such operation in which several programs share."""


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="a GPU chooses the order of programs itself"
)
@pytest.mark.parametrize("name", SHARING)
def test_any_program_may_end_last(name: str, device: torch.device, chip: str) -> None:
    from interpreter import programs_backwards

    operation = load(name)
    (case,) = (case for case in operation.cases if case.name == SHARING[name])
    forwards = _outputs(operation, case, device, chip)
    with programs_backwards():
        backwards = _outputs(operation, case, device, chip)
    for output, found in forwards.items():
        assert same_bits(backwards[output], found), output


def _outputs(
    operation: Operation, case: Case, device: torch.device, chip: str
) -> dict[str, torch.Tensor]:
    arguments = case.make(Maker(device, torch.float32))
    operation.launch(**arguments, tiles=load_tiles(operation.name, chip))
    assert not arguments["arrivals"].any(), "the next launch would count from there"
    found = tensors(arguments)
    return {output: found[output] for output in operation.outputs if output in found}


def test_every_operation_that_counts_is_tested() -> None:
    from glmserve_kernels.registry import load_all

    counting = {operation.name for operation in load_all() if "arrivals" in operation.scratch}
    assert counting == SHARING.keys()
