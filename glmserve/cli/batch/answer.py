"""What answers the requests of `glmserve batch`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from glmserve.api.batching.line import LineAnswer
from glmserve.batches.lines import InputLine

Answer = Callable[[InputLine], Awaitable[LineAnswer]]
"""Answers a request. It raises a StartupError if no further one can be answered."""
