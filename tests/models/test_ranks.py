"""A model that is cut over ranks computes what it computes on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glmserve.config import Quantization, report_nothing
from glmserve.contract.shard import Shard
from glmserve.errors import OptionError
from glmserve.model_config import read_model_config
from glmserve.model_config.sharding import Part, local_config
from glmserve.models.cuts import cut_of, is_summed_bias
from glmserve.models.dummy import dummy_weights
from glmserve.models.segment_counts import check_segments
from support.golden import ATOL, FIRST_GENERATION, NAMES, PREFIXES, read_greedy, read_logits
from support.paged_model import Operations, PagedModel
from support.ranks import on_ranks
from support.slow import slow

CHUNK = 16


def logits_on(size: int, folder: Path, sequences: int = 1, **options: Any) -> list[NDArray[Any]]:
    """Logits of the golden's first sequences; all ranks must have the same."""
    golden = read_logits(folder)[:sequences]

    def work(collectives: Any) -> list[NDArray[Any]]:
        model = PagedModel(folder, collectives=collectives, **options)
        chunk = None if model.marks else CHUNK
        return [model.logits(ids, chunk) for ids, _ in golden]

    first, *others = on_ranks(size, work)
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    return first


def sizes(name: str) -> tuple[int, ...]:
    return (1, 2) if name in ("glm4_base", "glm4_0414") else (1, 2, 4)  # 6 heads


@pytest.mark.parametrize("name", [*NAMES, *FIRST_GENERATION])
@pytest.mark.parametrize(
    ("size", "operations"), [slow(2, "packed"), (2, "native"), slow(4, "native")]
)
def test_goldens(golden_models: Path, name: str, size: int, operations: Operations) -> None:
    if size not in sizes(name):
        pytest.skip("6 heads are not cut into 4 parts")
    folder = golden_models / name
    found = logits_on(size, folder, sequences=3, operations=operations)
    for (_, want), got in zip(read_logits(folder), found, strict=False):
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("ordered", [False, True])
def test_eight_ranks(golden_models: Path, ordered: bool) -> None:
    """One head each; each key/value head is on four ranks."""
    options: Any = {"operations": "native", "ordered": ordered}
    one, eight = (logits_on(n, golden_models / "glm2_base", **options)[0] for n in (1, 8))
    if ordered:
        np.testing.assert_array_equal(eight, one)
    else:
        np.testing.assert_allclose(eight, one, rtol=0, atol=ATOL)


@pytest.mark.parametrize(("base", "prefix"), PREFIXES)
@pytest.mark.parametrize("size", [2, slow(4)])
def test_prefixes(golden_models: Path, base: str, prefix: str, size: int) -> None:
    def work(collectives: Any) -> list[NDArray[Any]]:
        ptuning = golden_models / prefix
        model = PagedModel(golden_models / base, ptuning=ptuning, collectives=collectives)
        return model.continued(*read_greedy(golden_models / prefix), 7)

    for found in on_ranks(size, work):
        for got, (_, want) in zip(found, read_logits(golden_models / prefix), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("operations", ["packed", "native"])
def test_int8_cache(golden_models: Path, operations: Operations) -> None:
    """K and V are rounded head by head, so they are the same on any rank."""
    options: Any = {"kv_cache_dtype": "int8", "operations": operations}
    one, two = (logits_on(size, golden_models / "glm2_base", **options) for size in (1, 2))
    np.testing.assert_allclose(two[0], one[0], rtol=0, atol=5e-3)


@pytest.mark.parametrize("quantization", ["int8", "int4", "w8a8"])
@pytest.mark.parametrize("size", [2, 4])
def test_quantised_while_loading(
    golden_models: Path, quantization: Quantization, size: int
) -> None:
    """Each rank has scales of its own, so rounding is not the same, and not worse."""
    folder = golden_models / "glm2_base"
    exact = read_logits(folder)[0][1]
    options: Any = {"quantization": quantization, "operations": "native"}
    one, several = (logits_on(n, folder, **options)[0] for n in (1, size))
    assert 1e-4 < np.abs(several - exact).mean() < 1.1 * np.abs(one - exact).mean()


@pytest.mark.parametrize("name", ["glm2_base", "glm1_base", "glm2_int4", "glm2_int8", "glm4_base"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_in_order_are_the_same_bits(
    golden_models: Path, name: str, dtype: torch.dtype
) -> None:
    options: Any = {"dtype": dtype, "operations": "native", "ordered": True}
    one, *others = (logits_on(n, golden_models / name, **options)[0] for n in sizes(name))
    for other in others:
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize(
    ("quantization", "sizes"), [("int8", (1, 2, 4)), ("int4", (1, 2)), ("w8a8", (1, 2, 4))]
)
def test_sums_in_order_of_rounded_weights(
    golden_models: Path, quantization: Quantization, sizes: tuple[int, ...]
) -> None:
    options: Any = {"quantization": quantization, "operations": "native", "ordered": True}
    one, *others = (logits_on(n, golden_models / "glm2_base", **options)[0] for n in sizes)
    for other in others:
        np.testing.assert_array_equal(other, one)


def test_groups_that_leave_too_few_segments_are_refused(golden_models: Path) -> None:
    config = read_model_config(golden_models / "glm2_base")  # attention gives 128 columns
    check_segments(local_config(config, Part(Shard(1, 2))), "int4")
    with pytest.raises(OptionError, match="over 128 columns are made in 2 segments"):
        check_segments(local_config(config, Part(Shard(1, 4))), "int4")


def test_sums_in_order_are_as_exact(golden_models: Path) -> None:
    folder = golden_models / "glm2_base"
    found = logits_on(1, folder, sequences=3, operations="native", ordered=True)
    for (_, want), got in zip(read_logits(folder), found, strict=False):
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", ["glm2_base", "glm1_base", "glm4_base"])
def test_dummy_weights_are_parts_of_the_same(golden_models: Path, name: str) -> None:
    config = read_model_config(golden_models / name)
    about = (torch.float32, torch.device("cpu"), report_nothing, 7)
    whole = dict(dummy_weights(config, *about))
    for rank in range(2):
        shard = Shard(rank, 2)
        for parameter, part in dummy_weights(config, *about, Part(shard)):
            cut = cut_of(config, parameter, shard)
            want = whole[parameter] if cut is None else cut.of(whole[parameter])
            assert part.equal(
                torch.zeros_like(want) if rank and is_summed_bias(parameter) else want
            )
