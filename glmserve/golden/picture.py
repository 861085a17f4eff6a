"""The errors of all tensors as a picture: SVG, a column for each layer, a row for each tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from glmserve.golden.difference import Difference
from glmserve.runner import tensor_names as names

_CELL_WIDTH, _CELL_HEIGHT = 22, 18
_LEFT, _TOP = 110, 46
_OTHERS = (names.EMBEDDING, names.STREAM, names.FINAL_NORM, names.LOGITS)
_DECADES = 3
"""Powers of ten between the greenest and the yellow of the tolerance."""


def write_picture(
    path: Path, found: Iterable[Difference], num_layers: int, tolerance: float, title: str
) -> None:
    """Write the picture. Green cells are within the tolerance, red ones beyond."""
    by_name = {difference.name: difference for difference in found}
    rows = (*names.LAYER_TENSORS, *_OTHERS)
    width = max(_LEFT + num_layers * _CELL_WIDTH + 20, 520)
    height = _TOP + len(rows) * _CELL_HEIGHT + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="16" font-size="13">{escape(title)}</text>',
        f'<text x="8" y="32">relative error; green: at most {tolerance:g}, red: more</text>',
        *_cells(rows, by_name, num_layers, tolerance),
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _cells(
    rows: Iterable[str], by_name: dict[str, Difference], num_layers: int, tolerance: float
) -> Iterator[str]:
    for number, kind in enumerate(rows):
        y = _TOP + number * _CELL_HEIGHT
        yield f'<text x="8" y="{y + 13}">{kind}</text>'
        of_layers = [names.layer_tensor(layer, kind) for layer in range(num_layers)]
        for column, name in enumerate([kind] if kind in _OTHERS else of_layers):
            difference = by_name.get(name)
            x = _LEFT + column * _CELL_WIDTH
            size = f'width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}"'
            if difference is None:
                yield f'<rect x="{x}" y="{y}" {size} fill="#eeeeee"/>'
                continue
            color = _color(difference.relative_error, tolerance)
            tip = f"{name}: {difference.relative_error:.2e}, token {difference.worst_row}"
            yield f'<rect x="{x}" y="{y}" {size} fill="{color}"><title>{escape(tip)}</title></rect>'
    yield from (
        f'<text x="{_LEFT + layer * _CELL_WIDTH + 4}" y="{_TOP - 4}">{layer}</text>'
        for layer in range(num_layers)
    )


def _color(error: float, tolerance: float) -> str:
    """From green through yellow at the tolerance to red at a hundred times the tolerance."""
    if not math.isfinite(error):
        return "#7f0000"
    decades = math.log10(error / tolerance) if error > 0 else -_DECADES
    if decades <= 0:
        hue = 120 - 60 * (1 + max(decades, -_DECADES) / _DECADES)
    else:
        hue = 30 * (1 - min(decades, 2) / 2)
    return f"hsl({hue:.0f},70%,55%)"
