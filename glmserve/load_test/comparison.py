"""Two results of load tests side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmserve.errors import OptionError

_FIGURES = (
    ("requests/s", ("requests_per_second",)),
    ("good requests/s", ("good_requests_per_second",)),
    ("output tokens/s", ("output_tokens_per_second",)),
    *(
        (f"{title} {place}", (key, place))
        for title, key in (
            ("time to 1st token", "ttft_ms"),
            ("inter-token", "inter_token_ms"),
            ("per output token", "tpot_ms"),
            ("whole request", "duration_ms"),
        )
        for place in ("p50", "p99")
    ),
)


def compare(first: Path, second: Path) -> str:
    """A table of both results, and the second over the first. Sweeps are compared rate by rate.

    Raises:
        OptionError: a file is no result of a load test, or they have no rate in common.
    """
    runs = [_runs(path) for path in (first, second)]
    rates = [rate for rate in runs[0] if rate in runs[1]]
    if not rates:
        raise OptionError(f"{first} and {second} have no rate in common")
    blocks = []
    for rate in rates:
        title = [f"{rate} conversations/s"] if rate is not None else []
        head = f"{'':<22}{first.stem[-12:]:>14}{second.stem[-12:]:>14}{'ratio':>10}"
        blocks.append("\n".join([*title, head, *_rows(runs[0][rate], runs[1][rate])]))
    return "\n\n".join(blocks)


def _rows(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    for title, path in _FIGURES:
        values = [_value(run, path) for run in (first, second)]
        if None in values:
            continue
        one, other = values
        ratio = f"{other / one:.3f}" if one else "-"
        yield f"{title:<22}{one:>14.2f}{other:>14.2f}{ratio:>10}"


def _value(run: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = run
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _runs(path: Path) -> dict[float | None, dict[str, Any]]:
    """The results of a file by their rates; None: without one."""
    try:
        result = json.loads(path.read_text())
        if "sweep" in result:
            return {run["rate"]: run for run in result["sweep"]}
        float(result["requests_per_second"])
        return {None: result}
    except OSError as error:
        raise OptionError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, KeyError):
        raise OptionError(f"{path} is no result of glmserve bench load") from None
