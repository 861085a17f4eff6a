"""Ways to use a machine's CPUs: what is compared, and what is advised."""

from __future__ import annotations

import argparse
import asyncio

import pytest

from glmserve.capacity import cpu_choices as module
from glmserve.capacity.cpu_choices import CpuChoice, Glance, comparison, cpu_choices
from glmserve.cli.compare import compare
from glmserve.cli.main import build_parser, main

THREADS = [CpuChoice("threads", number) for number in (1, 2)]


@pytest.mark.parametrize(
    ("cores", "nodes", "expected"),
    [
        (1, 1, ["--threads 1"]),
        (2, 0, ["--threads 1", "--threads 2"]),
        (8, 1, ["--threads 2", "--threads 4", "--threads 7", "--threads 8"]),
        (
            64,
            2,
            [
                *(f"--threads {number}" for number in (16, 32, 63, 64)),
                "--numa-node 0 (one of 2 servers)",
                "--tensor-parallel-size 2",
            ],
        ),
        (6, 3, [*(f"--threads {n}" for n in (2, 4, 5, 6)), "--numa-node 0 (one of 3 servers)"]),
    ],
)
def test_what_is_compared(cores: int, nodes: int, expected: list[str]) -> None:
    assert [str(choice) for choice in cpu_choices(cores, nodes)] == expected


def test_with_amx_other_kernels_are_compared() -> None:
    assert [str(choice) for choice in cpu_choices(2, 1, has_amx=True)][2:] == [
        "--cpu-kernels no-amx",
        "--cpu-kernels torch",
    ]


def test_of_equals_the_one_with_fewer_threads_is_advised() -> None:
    glances = [Glance(THREADS[0], 98.0, 100.0, 10.0), Glance(THREADS[1], 100.0, 150.0, 11.0)]
    lines = comparison(glances, 16)
    assert [line.split(": ")[1] for line in lines[-3:]] == [
        "--threads 1",
        "--threads 2",
        "--threads 2",
    ]
    assert lines[1].split() == ["--threads", "1", "98.0", "100.0", "10"]


def test_servers_side_by_side_count_together() -> None:
    one, two = CpuChoice("threads", 8), CpuChoice("numa_node", 0, servers=2)
    lines = comparison([Glance(one, 20.0, 100.0, 500.0), Glance(two, 15.0, 60.0, 200.0)], 16)
    assert lines[-3].endswith(": --threads 8")
    assert lines[-2].endswith(": --numa-node 0 (one of 2 servers)")
    assert lines[-1].endswith(": --threads 8")


def test_a_model_is_measured_with_each_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """glm-tiny's 6 heads cannot be divided by 4 ranks, so these are left out."""
    choices = [CpuChoice("threads", 1), CpuChoice("tensor_parallel_size", 4)]
    monkeypatch.setattr(module, "cpu_choices", lambda cores, nodes, has_amx: choices)
    options = parsed("--max-batch-size", "2", "--max-model-len", "128", "--max-step-tokens", "64")
    table = asyncio.run(compare(options))
    assert table[2].startswith("--threads 1 ")
    assert "left out: " in capsys.readouterr().out


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(
        ["bench", "calibrate", "--output", "x.json", "--compare", *arguments]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threads", "2"), "--compare tries values of --threads; leave the option out"),
        (("--tensor-parallel-size", "2"), "--compare tries values of --tensor-parallel-size"),
        (("--device", "null"), "leave out --device null"),
    ],
)
def test_nothing_to_compare(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", "calibrate", "--output", "/tmp/none.json", "--compare", *options])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
