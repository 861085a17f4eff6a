"""Kernels at the shapes that are served: captured in graphs, and free of races."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from glmserve_kernels.operation import Arguments, Case, Maker, Operation
from glmserve_kernels.paged_attention.cases import Heads, make_cache
from glmserve_kernels.paged_decode.kernel import count_arrivals, paged_decode
from glmserve_kernels.paged_decode.split_plan import split_contexts
from glmserve_kernels.registry import load_all
from glmserve_kernels.tiles import Tiles, load_tiles
from gpu_timing import CudaTimer
from kernel_arguments import DeviceMaker, fit, held_bytes, is_for, tensors
from kernel_check import same_bits

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]  # kernels are compiled on first use

LARGEST = 2**29
"""Bytes of arguments; larger cases only repeat what smaller ones show."""
REPEATS = 50


def served_cases() -> Iterator[object]:
    for operation in load_all():
        for case in operation.served:
            dtype = torch.bfloat16 if torch.bfloat16 in case.dtypes else case.dtypes[0]
            if held_bytes(case.make(Maker(torch.device("meta"), dtype))) <= LARGEST:
                yield pytest.param(operation, case, dtype, id=f"{operation.name}-{case.name}")


each_served_case = pytest.mark.parametrize(("operation", "case", "dtype"), list(served_cases()))


def make(
    operation: Operation, case: Case, dtype: torch.dtype, gpu: torch.device, tiles: Tiles, seed: int
) -> Arguments:
    return fit(operation.name, case.make(DeviceMaker(gpu, dtype, seed)), tiles)


@each_served_case
def test_the_same_bits_every_time(
    operation: Operation, case: Case, dtype: torch.dtype, gpu: torch.device, chip: str
) -> None:
    """Programs of a launch run in any order: where that changes something, there is a race."""
    if not is_for(case, operation, chip):
        pytest.skip(f"not made for {chip}")
    tiles = load_tiles(operation.name, chip)
    arguments = make(operation, case, dtype, gpu, tiles, seed=0)
    changed = {
        name: tensor
        for name, tensor in tensors(arguments).items()
        if name in (*operation.outputs, *operation.scratch)
    }
    before = {name: tensor.clone() for name, tensor in changed.items()}
    expected: dict[str, torch.Tensor] = {}
    for _ in range(REPEATS):
        for name, tensor in changed.items():
            tensor.copy_(before[name])
        operation.launch(**arguments, tiles=tiles)
        for name in set(operation.outputs) & changed.keys():
            wanted = expected.setdefault(name, changed[name].clone())
            assert same_bits(changed[name], wanted), name


@each_served_case
def test_a_graph_computes_with_what_its_tensors_hold_now(
    operation: Operation, case: Case, dtype: torch.dtype, gpu: torch.device, chip: str
) -> None:
    if not is_for(case, operation, chip):
        pytest.skip(f"not made for {chip}")
    tiles = load_tiles(operation.name, chip)
    recorded, other = (make(operation, case, dtype, gpu, tiles, seed=seed) for seed in (0, 1))
    replay = CudaTimer().record([partial(operation.launch, **recorded, tiles=tiles)])
    for name, tensor in tensors(recorded).items():
        tensor.copy_(other[name])
    replay()
    operation.launch(**other, tiles=tiles)
    for name in set(operation.outputs) & tensors(other).keys():
        assert same_bits(recorded[name], other[name]), name


@pytest.mark.parametrize("cache", ["", "int8"])
def test_a_decode_graph_serves_other_lengths(gpu: torch.device, chip: str, cache: str) -> None:
    heads = Heads(32, 2, 128, 64, cache)
    maker = DeviceMaker(gpu, torch.float16)
    lengths = [[700, 1, 64, 65], [1, 2000, 0, 129], [0, 0, 0, 0], [2000, 1999, 1937, 1]]
    longest = [max(of_one) for of_one in zip(*lengths, strict=True)]
    num_items = 40
    kept = make_cache(maker, heads, longest)
    shape = (len(longest), heads.query, heads.dim)

    def arguments(contexts: list[int]) -> Arguments:
        items, item_start = split_contexts(
            np.array(contexts), num_items, block_size=heads.block_size
        )
        return {
            **kept,
            "items": maker.given(items.tolist(), torch.int32),
            "item_start": maker.given(item_start.tolist(), torch.int32),
            "partial_out": maker.poisoned(num_items, heads.query, heads.dim, dtype=torch.float32),
            "partial_lse": maker.poisoned(num_items, heads.query, dtype=torch.float32),
            "arrivals": maker.given([0] * count_arrivals(num_items, heads.key), torch.int32),
            "out": maker.poisoned(*shape),
        }

    launch = partial(
        paged_decode,
        q=maker.normal(*shape),
        scale=heads.dim**-0.5,
        tiles=load_tiles("paged_decode", chip),
    )
    recorded = arguments(lengths[0])
    replay = CudaTimer().record([partial(launch, **recorded)])
    for contexts in lengths:
        other = arguments(contexts)
        for name in ("items", "item_start", "partial_out", "partial_lse", "out"):
            recorded[name].copy_(other[name])
        replay()
        launch(**other)
        used = torch.tensor([context > 0 for context in contexts], device=gpu)
        assert other["out"][used].isfinite().all()
        assert same_bits(recorded["out"], other["out"]), contexts
