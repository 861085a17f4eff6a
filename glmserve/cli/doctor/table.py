"""Aligns columns on a terminal, where a Chinese character is as wide as two Latin ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_GAP = "  "


def width(text: str) -> int:
    """Width of a text on a terminal, in columns."""
    return sum(_width_of(character) for character in text)


def _width_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def align(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lines with aligned cells.

    Args:
        rows: the cells; all rows have the same length.
        right: for each column, whether its cells are aligned right.
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            _padded(cell, columns, is_right)
            for cell, columns, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _padded(cell: str, columns: int, is_right: bool) -> str:
    padding = " " * (columns - width(cell))
    return padding + cell if is_right else cell + padding
