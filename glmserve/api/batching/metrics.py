"""The Prometheus metrics of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class BatchMetrics(Collector):
    """Plain counters, read at each scrape.

    Args:
        num_bytes: returns what the stored files take, bytes.
        unfinished: returns the number of unfinished batches.
    """

    def __init__(self, num_bytes: Callable[[], int], unfinished: Callable[[], int]) -> None:
        self.lines: Counter[str] = Counter()
        """Lines by what became of them: completed, failed, expired or cancelled."""
        self.ended: Counter[str] = Counter()
        """Batches by their last status."""
        self.write_failures = 0
        self._num_bytes = num_bytes
        self._unfinished = unfinished

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "glmserve_batches_unfinished", "Batches that have not ended.", value=self._unfinished()
        )
        yield GaugeMetricFamily(
            "glmserve_batch_file_bytes", "What stored files take.", value=self._num_bytes()
        )
        lines = CounterMetricFamily(
            "glmserve_batch_lines", "Lines of batches, by outcome.", labels=["outcome"]
        )
        for outcome in ("completed", "failed", "expired", "cancelled"):
            lines.add_metric([outcome], self.lines[outcome])
        ended = CounterMetricFamily(
            "glmserve_batches_ended", "Batches that have ended, by status.", labels=["status"]
        )
        for status in ("completed", "failed", "expired", "cancelled"):
            ended.add_metric([status], self.ended[status])
        yield from (lines, ended)
        yield CounterMetricFamily(
            "glmserve_batch_write_failures",
            "Times an answer of a batch could not be written; it is tried again.",
            value=self.write_failures,
        )
