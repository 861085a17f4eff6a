"""--cpus and --numa-node: what they come to, on machines that are made up."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.cli import cores, values
from glmserve.cli.cores import leave_to_worker, place_worker
from glmserve.cli.main import build_parser
from glmserve.errors import OptionError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets of CPUs are Linux's")


@pytest.fixture(autouse=True)
def affinity(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """This process may use CPUs 0-5; what it changes that to is in the list."""
    known: list[set[int]] = [set(range(6))]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: known[-1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: known.append(set(cpus)))
    return known


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """Two sockets of four CPUs, and memory without any."""
    for node, cpus in enumerate(("0-3", "4-7", "")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(f"{cpus}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), ("5, 1-2 ,2-3", (1, 2, 3, 5))]
)
def test_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert values.cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "1,,2", "1-2-3", "9" * 30])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="0-15,32"):
        values.cpu_list(text)


@given(st.sets(st.integers(0, 40), min_size=1))
def test_lists_are_written_as_they_are_read(cpus: set[int]) -> None:
    assert set(values.cpu_list(cores._list(sorted(cpus)))) == cpus


def test_neither() -> None:
    assert place_worker(None, None) == (None, None)


def test_cpus(nodes: Path) -> None:
    assert place_worker((1, 5), None, nodes) == ((1, 5), None)
    with pytest.raises(OptionError, match="--cpus: 6 may not be used; this process may use 0-5"):
        place_worker((1, 6), None, nodes)


def test_a_node(nodes: Path) -> None:
    assert place_worker(None, 0, nodes) == ((0, 1, 2, 3), 0)
    assert place_worker(None, 1, nodes) == ((4, 5), 1)  # as far as they may be used


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (3, "--numa-node 3: no such node; there is 0-2"),
        (2, "--numa-node 2: it has no CPUs"),
    ],
)
def test_a_node_that_cannot_be_had(nodes: Path, node: int, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        place_worker(None, node, nodes)


def test_a_node_that_is_not_ours(nodes: Path, affinity: list[set[int]]) -> None:
    affinity.append({0, 2})
    with pytest.raises(OptionError, match=r"none of its CPUs may be used; .* use 0,2"):
        place_worker(None, 1, nodes)


def test_a_system_without_nodes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such node; this system has none"):
        place_worker(None, 0, tmp_path)


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    with pytest.raises(OptionError, match="--numa-node 0 is for Linux only"):
        place_worker(None, 0)
    assert place_worker(None, None) == (None, None)


def test_the_server_takes_the_other_cpus(affinity: list[set[int]]) -> None:
    leave_to_worker((0, 1, 2, 3))
    assert affinity[-1] == {4, 5}


@pytest.mark.parametrize("cpus", [None, tuple(range(6))])
def test_the_server_stays_where_there_are_no_others(
    affinity: list[set[int]], cpus: tuple[int, ...] | None
) -> None:
    leave_to_worker(cpus)
    assert len(affinity) == 1


def test_one_of_them() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["serve", "--cpus", "0", "--numa-node", "0"])
