"""Rounds of peers.py as numbers and as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from cpu_ceilings import CpuCeilings
from peer_servers.loads import Figure
from step_floor import Shape

Round = Mapping[str, Mapping[str, float]]
"""Peer, title of a figure, value."""


class Memory:
    """Of each peer: bytes when it was ready, and the most after its loads."""

    def __init__(self) -> None:
        self.ready: dict[str, int] = {}
        self.loaded: dict[str, int] = {}

    def is_ready(self, name: str, num_bytes: int) -> None:
        self.ready[name] = max(num_bytes, self.ready.get(name, 0))

    def has_worked(self, name: str, num_bytes: int) -> None:
        self.loaded[name] = max(num_bytes, self.loaded.get(name, 0))


def summarise(
    figures: Sequence[Figure], rounds: Sequence[Round], ours: str, best: Mapping[str, float]
) -> dict[str, Any]:
    """Per peer and figure: median and range, share of the best possible, ours over it."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    return {
        name: {
            figure.title: _one(figure, rounds, name, ours, best[figure.title])
            for figure in figures
            if any(figure.title in one.get(name, {}) for one in rounds)
        }
        for name in names
    }


def _one(
    figure: Figure, rounds: Sequence[Round], name: str, ours: str, best: float
) -> dict[str, Any]:
    title = figure.title
    values = [one[name][title] for one in rounds if title in one.get(name, {})]
    middle = median(values)
    found: dict[str, Any] = {
        "median": round(middle, 2),
        "lowest": round(min(values), 2),
        "highest": round(max(values), 2),
        "of_roofline": round(figure.advantage(middle, best), 3),
    }
    ratios = [
        figure.advantage(one[ours][title], one[name][title])
        for one in rounds
        if title in one.get(name, {}) and title in one.get(ours, {})
    ]
    if name != ours and ratios:
        found["glmserve_over_it"] = {
            "median": round(median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
        }
    return found


def best_possible(
    figures: Sequence[Figure], shape: Shape, precision: str, ceilings: CpuCeilings
) -> dict[str, float]:
    """Title of each figure, and what the measured bandwidth and operations allow."""
    return {figure.title: figure.best(shape, precision, ceilings) for figure in figures}


def table(
    figures: Sequence[Figure],
    peers: Mapping[str, Mapping[str, Any]],
    best: Mapping[str, float],
    memory: Memory,
) -> str:
    """Three blocks for people: figures, how many times as good ours are, shares of the best."""
    titles = [figure.title for figure in figures]

    def rows(text: Callable[[Mapping[str, Any]], str]) -> dict[str, list[str]]:
        return {
            name: [text(found[title]) if title in found else "-" for title in titles]
            for name, found in peers.items()
        }

    medians = rows(lambda one: f"{one['median']:.1f}")
    for name, cells in medians.items():
        cells += _memory_cells(memory, name)
    medians["(roofline)"] = [f"{best[title]:.1f}" for title in titles]
    ratios = {name: cells for name, cells in rows(_spread).items() if set(cells) != {"-"}}
    shares = rows(lambda one: f"{one['of_roofline']:.2f}")
    return "\n\n".join(
        [
            _block("median", [*titles, "ready GB", "loaded GB"], medians),
            _block("glmserve is so many times as good (lowest-highest)", titles, ratios),
            _block("share of the roofline", titles, shares),
        ]
    )


def _spread(one: Mapping[str, Any]) -> str:
    ratio = one.get("glmserve_over_it")
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['lowest']:.2f}-{ratio['highest']:.2f})"


def _memory_cells(memory: Memory, name: str) -> list[str]:
    return [f"{found[name] / 1e9:.2f}" for found in (memory.ready, memory.loaded) if name in found]


def _block(head: str, titles: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {head} | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name, cells in rows.items():
        padded = [*cells, *[""] * (len(titles) - len(cells))]
        lines.append(f"| {name} | {' | '.join(padded)} |")
    return "\n".join(lines)
