"""How long a step takes, from measurements of a device."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from glmserve.contract.step import StepInput


class Curve(msgspec.Struct, frozen=True, array_like=True):
    """Seconds by number of rows: straight lines between the measured points, and beyond them."""

    rows: tuple[int, ...]
    """Ascending."""
    seconds: tuple[float, ...]
    """One for each of `rows`."""

    def __post_init__(self) -> None:
        """A file's curve is checked when it is read.

        Raises:
            ValueError: the points are no curve.
        """
        ascending = all(a < b for a, b in pairwise(self.rows))
        if not self.rows or len(self.rows) != len(self.seconds) or not ascending:
            raise ValueError("a curve has ascending rows, and seconds for each")

    def at(self, rows: int) -> float:
        """Seconds for so many rows."""
        if rows in self.rows or len(self.rows) == 1:
            return self.seconds[min(bisect_left(self.rows, rows), len(self.rows) - 1)]
        right = min(max(bisect_left(self.rows, rows), 1), len(self.rows) - 1)
        (x0, x1), (y0, y1) = self.rows[right - 1 : right + 1], self.seconds[right - 1 : right + 1]
        return max(0.0, y0 + (y1 - y0) * (rows - x0) / (x1 - x0))


class StepCosts(msgspec.Struct, frozen=True):
    """The time of a step: its rows, and what they attend to."""

    decode: Curve
    """Steps of decodes alone, with contexts of length 0."""
    prefill: Curve
    """Steps with a chunk of a prompt, by all new tokens, with contexts of length 0."""
    decode_context: float
    """Seconds for each token that a decode attends to."""
    prefill_context: float
    """Seconds for each pair of a prompt's token and a token that it attends to."""
    spread: tuple[float, ...] = (1.0,)
    """How equal steps differ: their times as multiples of the median, each equally likely."""

    def seconds(self, step: StepInput) -> float:
        """The median time of this step, with planning and delivery."""
        new = [(len(s.token_ids), s.start) for s in step.sequences]
        return self.of_chunks(new)

    def of_chunks(self, chunks: Sequence[tuple[int, int]]) -> float:
        """The median time of a step by new tokens and tokens in the cache of each sequence."""
        rows = sum(count for count, _ in chunks)
        decoded = sum(start + 1 for count, start in chunks if count == 1)
        pairs = sum(count * start + count * (count + 1) / 2 for count, start in chunks if count > 1)
        curve = self.prefill if pairs else self.decode
        return curve.at(rows) + decoded * self.decode_context + pairs * self.prefill_context
