"""What ranks do together, by gloo and by shared memory: the same on every rank."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glmserve.contract.shard import Group, Shard, Stage
from glmserve.errors import RankLostError
from glmserve.ops.collectives import Collectives
from glmserve.ops.linear.segments import pairwise_sum
from glmserve.ops.shared_collectives import SharedMemory
from glmserve.ops.torch_collectives import join_by_gloo
from support.native import native_library

Join = Callable[[Group], Collectives]


@pytest.fixture(params=["gloo", "shared memory"])
def join(request: pytest.FixtureRequest) -> Join:
    if request.param == "gloo":
        return join_by_gloo
    library = native_library()
    return lambda group: SharedMemory(group, library)


def on_ranks(join: Join, path: Path, size: int, work: Callable[[Collectives], Any]) -> list[Any]:
    def rank(number: int) -> Any:
        return work(join(Group(Shard(number, size), str(path / "ranks"))))

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(rank, range(size)))


def numbers(rank: int, width: int = 5) -> Tensor:
    return torch.randn(3, width, generator=torch.Generator().manual_seed(rank))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums(join: Join, tmp_path: Path, size: int, dtype: torch.dtype) -> None:
    parts = [numbers(rank).to(dtype) for rank in range(size)]

    def work(ranks: Collectives) -> tuple[Tensor, Tensor]:
        own = parts[ranks.shard.rank]
        return ranks.ordered_sum(own.clone()), ranks.sum(own.clone())

    found = on_ranks(join, tmp_path, size, work)
    tolerance = 1e-6 if dtype == torch.float32 else 0.1
    for ordered, whole in found:
        assert ordered.equal(pairwise_sum(parts))
        assert whole.equal(found[0][1])
        torch.testing.assert_close(whole, sum(parts), rtol=0, atol=tolerance)


def test_joins_of_different_widths(join: Join, tmp_path: Path) -> None:
    widths = [4, 5, 5]

    def work(ranks: Collectives) -> Tensor:
        return ranks.join(numbers(ranks.shard.rank, widths[ranks.shard.rank]), widths)

    want = torch.cat([numbers(rank, width) for rank, width in enumerate(widths)], dim=1)
    assert all(found.equal(want) for found in on_ranks(join, tmp_path, 3, work))


def test_the_smallest(join: Join, tmp_path: Path) -> None:
    def work(ranks: Collectives) -> int:
        return ranks.smallest(2**40 - ranks.shard.rank)

    assert on_ranks(join, tmp_path, 4, work) == [2**40 - 3] * 4


def test_no_rows(join: Join, tmp_path: Path) -> None:
    """A step without output rows."""

    def work(ranks: Collectives) -> Tensor:
        found = ranks.sum(torch.empty(0, 4))
        ranks.smallest(0)  # one that is through stays until the other is there
        return found

    found = on_ranks(join, tmp_path, 2, work)
    assert [part.shape for part in found] == [(0, 4)] * 2


def on_stages(join: Join, path: Path, work: Callable[[Collectives, Group], Any]) -> list[Any]:
    """Two stages of two ranks."""

    def rank(number: int) -> Any:
        stage, shard = divmod(number, 2)
        place = Group(Shard(shard, 2), str(path / "ranks"), Stage(stage, 2))
        ranks = join(place)
        result = work(ranks, place)
        ranks.smallest(0)  # one that is through stays until the others are
        return result

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(rank, range(4)))


def test_hidden_states_go_to_the_same_shard_of_the_next_stage(join: Join, tmp_path: Path) -> None:
    """Several may be under way."""
    sizes = (3, 1, 700)

    def work(ranks: Collectives, place: Group) -> list[Tensor]:
        if place.stage.is_first:
            for seed in sizes:
                ranks.send(numbers(seed, seed) + place.shard.rank)
            return []
        return [ranks.receive(torch.empty(3, size)) for size in sizes]

    for shard, found in enumerate(on_stages(join, tmp_path, work)[2:]):
        for size, x in zip(sizes, found, strict=True):
            assert x.equal(numbers(size, size) + shard)


def test_stages_add_up_their_own_ranks_alone(join: Join, tmp_path: Path) -> None:
    def work(ranks: Collectives, place: Group) -> tuple[float, list[float], int]:
        own = torch.full((1, 1), float(place.rank))
        joined = ranks.join(own, [1, 1])
        return ranks.sum(own.clone()).item(), joined[0].tolist(), ranks.smallest(9 - place.rank)

    found = on_stages(join, tmp_path, work)
    assert found == [(1.0, [0.0, 1.0], 6)] * 2 + [(5.0, [2.0, 3.0], 6)] * 2


def test_gloo_reports_a_rank_that_is_gone(tmp_path: Path) -> None:
    def work(ranks: Collectives) -> str:
        ranks.sum(torch.ones(3))
        if ranks.shard.rank:
            return "gone"  # its end is closed with the last reference
        with pytest.raises(RankLostError, match="another rank is gone"):
            for _ in range(10_000):
                ranks.sum(torch.ones(3))
        return "noticed"

    assert on_ranks(join_by_gloo, tmp_path, 2, work) == ["noticed", "gone"]
