"""Metrics of adapters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from glmserve.engine.adapters.version import AdapterVersion

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
REQUESTS = "glmserve_adapter_requests"
SLOTS = "glmserve_adapter_slots"


class AdapterUse(Protocol):
    """What the metrics read of AdapterSlots at each scrape."""

    capacity: int

    @property
    def num_loaded(self) -> int: ...

    def running(self) -> Iterable[tuple[AdapterVersion, int]]: ...

    def waiting(self) -> Iterable[tuple[AdapterVersion, int]]: ...


class AdapterStats(Collector):
    """Counters that the slots feed, and gauges that a scrape reads. Names of adapters are labels
    only while they have requests, so thousands of them leave nothing behind.

    Args:
        use: the slots.
    """

    def __init__(self, use: AdapterUse) -> None:
        self.evictions = 0
        """Idle adapters that made room for others."""
        self.failures = 0
        """Adapters that could not be loaded."""
        self._use = use
        self._load_time = Histogram(
            "glmserve_adapter_load_seconds",
            "From the order to load an adapter until all ranks have it.",
            buckets=_BUCKETS,
            registry=None,
        )

    def loaded(self, seconds: float) -> None:
        """Count an adapter that was loaded."""
        self._load_time.observe(seconds)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        use = self._use
        yield GaugeMetricFamily(
            SLOTS, "Adapters that are held at a time (--max-adapters).", value=use.capacity
        )
        yield GaugeMetricFamily(
            "glmserve_adapters_loaded", "Adapters that are held now.", value=use.num_loaded
        )
        yield CounterMetricFamily(
            "glmserve_adapter_evictions",
            "Idle adapters that made room for others.",
            value=self.evictions,
        )
        yield CounterMetricFamily(
            "glmserve_adapter_load_failures",
            "Adapters that could not be loaded.",
            value=self.failures,
        )
        yield from self._load_time.collect()
        yield self._requests()

    def _requests(self) -> Metric:
        family = GaugeMetricFamily(
            REQUESTS,
            "Requests of an adapter that hold it, or wait for a slot.",
            labels=["adapter", "state"],
        )
        for state, found in (("running", self._use.running()), ("waiting", self._use.waiting())):
            counts: Counter[str] = Counter()
            for version, count in found:
                counts[version.name] += count
            for name, count in counts.items():
                family.add_metric([name, state], count)
        return family


def vllm_requests_info(slots: Metric, requests: Metric) -> Metric:
    """vLLM's gauge of adapters in use: their names are labels, its value is the time.

    Args:
        slots, requests: the families SLOTS and REQUESTS.
    """
    names: dict[str, list[str]] = {"running": [], "waiting": []}
    for sample in requests.samples:
        names[sample.labels["state"]].append(sample.labels["adapter"])
    labels = {
        "max_lora": str(int(slots.samples[0].value)),
        "running_lora_adapters": ",".join(sorted(names["running"])),
        "waiting_lora_adapters": ",".join(sorted(names["waiting"])),
    }
    family = GaugeMetricFamily(
        "vllm:lora_requests_info", "Adapters with requests.", labels=list(labels)
    )
    family.add_metric(list(labels.values()), time.time())
    return family
