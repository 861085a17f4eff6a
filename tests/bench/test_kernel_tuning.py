"""The search for tiles, and how they are written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import glmserve_kernels
from glmserve_kernels.registry import NAMES
from glmserve_kernels.tiles import load_tiles
from kernel_tuning import Constants, NotingTiles, climb, format_tiles, geometric_mean, neighbours


def distance(constants: Constants) -> float:
    """Least at BLOCK 256, 2 warps."""
    block, warps = constants["BLOCK"], constants["num_warps"]
    return 1.0 + max(block / 256, 256 / block) + max(warps / 2, 2 / warps)


class TestClimb:
    def test_finds_the_valley(self) -> None:
        assert climb({"BLOCK": 1024, "num_warps": 4}, distance, set()) == {
            "BLOCK": 256,
            "num_warps": 2,
        }

    def test_a_block_and_its_warps_change_together(self) -> None:
        """Where either alone is worse: half the block with as many warps, or the reverse."""
        start = {"BLOCK_M": 128, "num_warps": 8}

        def cost(tried: Constants) -> float:
            return {(128, 8): 2.0, (64, 4): 1.0}.get((tried["BLOCK_M"], tried["num_warps"]), 3.0)

        assert climb(start, cost, set()) == {"BLOCK_M": 64, "num_warps": 4}
        assert climb(start, cost, {"num_warps"}) == start

    def test_leaves_what_is_fixed(self) -> None:
        found = climb({"BLOCK": 1024, "num_warps": 4}, distance, {"BLOCK"})
        assert found == {"BLOCK": 1024, "num_warps": 2}

    def test_noise_is_no_gain(self) -> None:
        start = {"num_warps": 4}
        assert climb(start, lambda constants: 1.0 - 0.001 * constants["num_warps"], set()) == start

    def test_what_fails_is_not_taken(self) -> None:
        start = {"num_warps": 4}
        assert climb(start, lambda tried: 1.0 if tried == start else float("inf"), set()) == start


@pytest.mark.parametrize(
    ("name", "value", "tried"),
    [
        ("num_warps", 1, [2]),
        ("num_warps", 16, [8]),
        ("num_stages", 1, [2]),
        ("num_stages", 3, [2, 4]),
        ("num_stages", 5, [4]),
        ("BLOCK_N", 64, [32, 128]),
    ],
)
def test_neighbours(name: str, value: int, tried: list[int]) -> None:
    assert neighbours(name, value) == tried


def test_geometric_mean() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([2.0, float("inf")]) == float("inf")


def test_notes_what_was_looked_up() -> None:
    tiles = NotingTiles({"a": {"BLOCK": 1}, "b": {"BLOCK": 2}})
    assert tiles["b"] == {"BLOCK": 2}
    assert tiles.used == {"b"}


@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_written_as_they_are_kept(name: str) -> None:
    path = Path(glmserve_kernels.__file__).parent / name / "tiles.json"
    if not path.exists():
        pytest.skip("it has no tiles")
    text = path.read_text()
    assert format_tiles(json.loads(text)) == text
    assert load_tiles(name, "sm_90")
