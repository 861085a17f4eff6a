"""Which CPUs each rank gets, on machines of several kinds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glmserve.contract.shard import Shard
from glmserve.devices.rank_cpus import RankCpus, keep_to_part, part_of


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """Two sockets of four cores with two threads each: CPUs 0-3, 8-11 and 4-7, 12-15."""
    nodes, cpus = tmp_path / "node", tmp_path / "cpu"
    for number, members in enumerate(("0-3,8-11", "4-7,12-15")):
        (nodes / f"node{number}").mkdir(parents=True)
        (nodes / f"node{number}/cpulist").write_text(f"{members}\n")
    (nodes / "node2").mkdir()  # memory only
    (nodes / "node2/cpulist").write_text("\n")
    for cpu in range(16):
        (cpus / f"cpu{cpu}/topology").mkdir(parents=True)
        (cpus / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    return nodes, cpus


def parts(size: int, allowed: set[int], folders: tuple[Path, Path]) -> list[RankCpus | None]:
    return [part_of(Shard(rank, size), allowed, *folders) for rank in range(size)]


def test_a_node_for_each(machine: tuple[Path, Path]) -> None:
    assert parts(2, {*range(16)}, machine) == [
        RankCpus((0, 1, 2, 3, 8, 9, 10, 11), 0),
        RankCpus((4, 5, 6, 7, 12, 13, 14, 15), 1),
    ]


def test_a_node_for_two(machine: tuple[Path, Path]) -> None:
    assert parts(4, {*range(16)}, machine) == [
        RankCpus((0, 1, 8, 9), 0),
        RankCpus((2, 3, 10, 11), 0),
        RankCpus((4, 5, 12, 13), 1),
        RankCpus((6, 7, 14, 15), 1),
    ]


def test_only_what_is_allowed(machine: tuple[Path, Path]) -> None:
    assert parts(2, {1, 2, 9}, machine) == [RankCpus((1, 9), None), RankCpus((2,), None)]
    assert parts(2, {3, 4}, machine) == [RankCpus((3,), 0), RankCpus((4,), 1)]


def test_too_few_cores(machine: tuple[Path, Path]) -> None:
    assert parts(4, {0, 1, 8, 9}, machine) == [None] * 4


def test_a_system_without_nodes(machine: tuple[Path, Path], tmp_path: Path) -> None:
    folders = (tmp_path / "none", machine[1])
    assert parts(2, {0, 1, 8, 9}, folders) == [RankCpus((0, 8), None), RankCpus((1, 9), None)]
    nowhere = (tmp_path / "none", tmp_path / "none")
    assert parts(2, {0, 1, 2}, nowhere) == [RankCpus((0,), None), RankCpus((1, 2), None)]


def test_words() -> None:
    assert str(RankCpus((3,), None)) == "CPU 3"
    assert str(RankCpus((4, 5, 6), 1)) == "CPUs 4-6 of NUMA node 1"
    assert str(RankCpus((0, 1, 8, 9), None)) == "CPUs 0,1,8,9"


def test_the_process_is_bound() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("Linux only")
    before = os.sched_getaffinity(0)
    try:
        part = keep_to_part(Shard(1, 2))
        assert os.sched_getaffinity(0) == (set(part.cpus) if part else before)
    finally:
        os.sched_setaffinity(0, before)
