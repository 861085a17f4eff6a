"""Pictures of load tests. They need matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib

from glmserve.load_test.result import Result

matplotlib.use("Agg")
from matplotlib import pyplot


def plot(results: Sequence[Result], title: str, path: Path) -> None:
    """Distributions of the two latencies users feel, and tokens over time, as a PNG."""
    good = [r for r in results if r.error is None and r.first is not None]
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    figure.suptitle(title)
    axes[0].hist([1000 * r.ttft for r in good if r.ttft is not None], bins=40)
    axes[0].set(title="time to first token", xlabel="ms", ylabel="requests")
    axes[1].hist([1000 * gap for r in good for gap in r.gaps], bins=80, log=True)
    axes[1].set(title="inter-token latency", xlabel="ms", ylabel="tokens")
    start = min((r.sent for r in good), default=0.0)
    arrivals: list[float] = []
    for r in good:
        arrivals += (t - start for t in accumulate(r.gaps, initial=r.first or 0.0))
    axes[2].hist(arrivals, bins=60)
    axes[2].set(title="throughput", xlabel="seconds since start", ylabel="chunks")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_sweep(runs: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Percentiles of the latencies over the load, and the throughput, as a PNG.

    Args:
        runs: summaries with their `rate`.
    """
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    figure.suptitle(title)
    rates = [run["rate"] for run in runs]
    for axis, key, name in (
        (axes[0], "ttft_ms", "time to first token"),
        (axes[1], "tpot_ms", "time per output token"),
    ):
        for place in ("p50", "p90", "p99"):
            axis.plot(rates, [run.get(key, {}).get(place) for run in runs], "o-", label=place)
        axis.set(title=name, xlabel="conversations per second", ylabel="ms", yscale="log")
        axis.legend()
    axes[2].plot(rates, [run["requests_per_second"] for run in runs], "o-", label="answered")
    if all("good_requests_per_second" in run for run in runs):
        good = [run["good_requests_per_second"] for run in runs]
        axes[2].plot(rates, good, "o-", label="within the objectives")
    axes[2].set(title="throughput", xlabel="conversations per second", ylabel="requests/s")
    axes[2].legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
