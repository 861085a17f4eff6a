"""Results of a load test as numbers, a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from client import Result

_PERCENTILES = (50, 90, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest values, as numpy's default."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summarise(results: Sequence[Result], elapsed: float, client_cpu: float) -> dict[str, Any]:
    """All figures of a run; times in milliseconds."""
    good = [r for r in results if r.error is None]
    summary: dict[str, Any] = {
        "requests": len(results),
        "errors": len(results) - len(good),
        "seconds": round(elapsed, 3),
        "requests_per_second": round(len(good) / elapsed, 3),
        "prompt_tokens": sum(r.prompt_tokens for r in good),
        "output_tokens": sum(r.output_tokens for r in good),
        "output_tokens_per_second": round(sum(r.output_tokens for r in good) / elapsed, 2),
        "client_cpu_fraction": round(client_cpu / elapsed, 4),
    }
    for name, values in (
        ("ttft_ms", [r.ttft for r in good if r.ttft is not None]),
        ("inter_token_ms", [gap for r in good for gap in r.gaps]),
        ("tpot_ms", [r.tpot for r in good if r.tpot is not None]),
        ("duration_ms", [r.duration for r in good if r.duration is not None]),
    ):
        if values:
            summary[name] = {
                "mean": round(1000 * sum(values) / len(values), 3),
                **{f"p{p}": round(1000 * percentile(values, p), 3) for p in _PERCENTILES},
            }
    messages = sorted({r.error for r in results if r.error is not None})
    if messages:
        summary["error_messages"] = messages[:5]
    return summary


def table(summary: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"requests          {summary['requests']} ({summary['errors']} errors) "
        f"in {summary['seconds']:.1f} s",
        f"requests/s        {summary['requests_per_second']:.2f}",
        f"output tokens/s   {summary['output_tokens_per_second']:.1f}",
        f"client CPU        {100 * summary['client_cpu_fraction']:.0f} % of one core",
        "",
        f"{'milliseconds':<18}{'mean':>10}{'p50':>10}{'p90':>10}{'p99':>10}",
    ]
    for title, key in (
        ("time to 1st token", "ttft_ms"),
        ("inter-token", "inter_token_ms"),
        ("per output token", "tpot_ms"),
        ("whole request", "duration_ms"),
    ):
        if key in summary:
            row = "".join(f"{summary[key][c]:>10.2f}" for c in ("mean", "p50", "p90", "p99"))
            lines.append(f"{title:<18}{row}")
    lines += [f"error: {message}" for message in summary.get("error_messages", [])]
    if summary["client_cpu_fraction"] > 0.7:
        lines.append(
            "warning: this client was busy most of the time and may have been the bottleneck; "
            "run several with a part of the load each"
        )
    return "\n".join(lines)


def plot(results: Sequence[Result], title: str, path: Path) -> None:
    """Distributions of the two latencies users feel, and tokens over time, as a PNG."""
    import matplotlib  # heavy, and not everybody wants a picture

    matplotlib.use("Agg")
    from matplotlib import pyplot

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
