"""The journal's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class JournalMetrics(Collector):
    """Plain counters, read at each scrape.

    Args:
        num_bytes: returns the size of the journal on disk, bytes.
    """

    def __init__(self, num_bytes: Callable[[], int]) -> None:
        self.commits = 0
        self.failures = 0
        self.resumed = 0
        self.finished = 0
        self._num_bytes = num_bytes

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "glmserve_journal_bytes", "What the journal takes on disk.", value=self._num_bytes()
        )
        for name, text, value in (
            ("commits", "Transactions written to the journal.", self.commits),
            ("commit_failures", "Transactions that could not be written.", self.failures),
            ("resumed_streams", "Streams that a client came back to.", self.resumed),
            (
                "finished_after_restart",
                "Requests that were finished after the server that had accepted them.",
                self.finished,
            ),
        ):
            yield CounterMetricFamily(f"glmserve_journal_{name}", text, value=value)
