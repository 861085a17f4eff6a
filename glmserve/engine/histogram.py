"""A histogram that counts many equal observations at once."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class CountingHistogram(Collector):
    """What prometheus_client's Histogram without labels reports, for values that come in groups.

    Args:
        buckets: upper bounds, ascending and not negative.
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = (*buckets, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._created = time.time()

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value that was observed `count` times."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def describe(self) -> list[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation)]

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation)
        total, buckets = 0.0, list[tuple[str, float]]()
        for bound, count in zip(self._bounds, self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if math.isinf(bound) else str(float(bound)), total))
        family.add_metric([], buckets, self._sum)
        family.add_sample(f"{self._name}_created", {}, self._created)
        yield family
