"""Tile sizes by chip: measured once (`bench/kernels.py --tune`), looked up while serving.

Each operation's folder has a tiles.json: chip to shape class to the launch's constants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

Tiles = Mapping[str, Mapping[str, int]]
"""One operation's constants on one chip: shape class to name to value."""

CHIPS = ("sm_80", "sm_90", "gfx942")
"""Chips that have entries of their own."""


def load_tiles(operation: str, chip: str) -> Tiles:
    """Constants of an operation on `chip`, or on the most similar chip with entries."""
    table: dict[str, Tiles] = json.loads((_folder(operation) / "tiles.json").read_text())
    return table[closest_chip(chip)]


def closest_chip(chip: str) -> str:
    """The chip with the tile sizes to use for `chip`: "sm_" and its number, or AMD's "gfx" name.

    NVIDIA's data centre chips after sm_90 use the tiles of sm_90, as they have at least its shared
    memory. All other chips of NVIDIA use the small tiles of sm_80.
    """
    if chip in CHIPS:
        return chip
    if chip.startswith("gfx"):
        return "gfx942"
    return "sm_90" if chip in ("sm_100", "sm_103") else "sm_80"


def _folder(operation: str) -> Path:
    return Path(__file__).parent / operation
