"""bench/devices.py: its matrix, its medians and ratios, and a run against two servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import devices
from served import Served

SCRIPT = Path(devices.__file__)


def test_medians_and_ratios_of_rounds() -> None:
    rounds = [
        [Served(100, 10, 5), Served(50, 20, 9)],
        [Served(10, 90, 50), Served(15, 30, 8)],
        [Served(120, 11, 4), Served(60, 25, 7)],
    ]
    first, second = devices.summarize(devices.Cell(4, 32, 64), ["a", "b"], rounds)
    assert (first.tokens_per_second, first.ratio) == (100, 1.0)
    assert (second.tokens_per_second, second.first_token_ms) == (50, 25)
    assert second.inter_token_ms == 8
    assert second.ratio == pytest.approx(0.5)  # of 0.5, 1.5 and 0.5


@pytest.mark.slow
def test_a_matrix_of_two_servers(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    result = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--server=--device null", "--server=--device null"),
            *("--batch", "1", "2", "--input", "8", "--output", "4", "--rounds", "1"),
            *("--json", str(path)),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())
    assert [(row["batch"], row["input_tokens"]) for row in rows] == [(1, 8), (1, 8), (2, 8), (2, 8)]
    assert len(result.stdout.splitlines()) == 5
    assert all(row["tokens_per_second"] > 0 for row in rows)
