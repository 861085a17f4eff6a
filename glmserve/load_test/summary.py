"""Results of a load test as numbers and as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, TextIO

from glmserve.load_test.goal import Goal, num_good
from glmserve.load_test.result import Result
from glmserve.load_test.run import Run

_PERCENTILES = (50, 90, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest values, as numpy's default."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summarise(run: Run, goals: Sequence[Goal] = ()) -> dict[str, Any]:
    """All figures of a run; times in milliseconds.

    Args:
        goals: what a request must keep to count as good.
    """
    results, elapsed, client_cpu = run.results, run.elapsed, run.client_cpu
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
    if goals:
        kept = num_good(results, goals)
        summary["good_requests_per_second"] = round(kept / elapsed, 3)
        summary["good_share"] = round(kept / max(1, len(results)), 4)
    messages = sorted({r.error for r in results if r.error is not None})
    if messages:
        summary["error_messages"] = messages[:5]
    return summary


def write_csv(results: Sequence[Result], file: TextIO) -> None:
    """A line for each request: its times in seconds after the first, its tokens, its error."""
    start = min((result.sent for result in results), default=0.0)
    writer = csv.writer(file)
    writer.writerow(["sent", "ttft", "tpot", "duration", "prompt_tokens", "output_tokens", "error"])
    for r in sorted(results, key=lambda result: result.sent):
        times = (r.sent - start, r.ttft, r.tpot, r.duration)
        shown = ["" if value is None else f"{value:.6f}" for value in times]
        writer.writerow([*shown, r.prompt_tokens, r.output_tokens, r.error or ""])


def table(summary: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"requests          {summary['requests']} ({summary['errors']} errors) "
        f"in {summary['seconds']:.1f} s",
        f"requests/s        {summary['requests_per_second']:.2f}",
        *(
            [
                f"good requests/s   {summary['good_requests_per_second']:.2f} "
                f"({100 * summary['good_share']:.1f} % keep the objectives)"
            ]
            if "good_share" in summary
            else []
        ),
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


def sweep_title() -> str:
    """The head of a table with a row for each rate."""
    latencies = f"{'ttft p50':>10}{'p99':>10}{'tpot p50':>10}{'p99':>10}"
    return f"{'rate':>8}{'requests/s':>12}{'good':>8}{'tokens/s':>10}{latencies}  (ms)"


def sweep_row(summary: dict[str, Any]) -> str:
    """The row of a summary with its `rate`."""
    good = f"{100 * summary['good_share']:.1f} %" if "good_share" in summary else "-"
    row = (
        f"{summary['rate']:>8g}{summary['requests_per_second']:>12.2f}{good:>8}"
        f"{summary['output_tokens_per_second']:>10.1f}"
    )
    for key in ("ttft_ms", "tpot_ms"):
        for place in ("p50", "p99"):
            value = summary.get(key, {}).get(place)
            row += f"{value:>10.2f}" if value is not None else f"{'-':>10}"
    if summary["errors"]:
        row += f"  {summary['errors']} errors: {summary['error_messages'][0]}"
    return row
