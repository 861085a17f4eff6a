"""Writes dashboard.json, for Grafana's import.

    python deploy/grafana/make_dashboard.py

A test holds the file equal to what this script makes, and each metric in it to what a server shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PATH = Path(__file__).with_name("dashboard.json")
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3  # of Grafana's grid, which is 24 wide
_SERVERS = 'instance=~"$instance",model_name=~"$model"'


class Query(NamedTuple):
    """A line of a panel. `$by` in the expression stands for the chosen servers and models."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One graph."""

    title: str
    unit: str
    """Grafana's name of a unit."""
    queries: Sequence[Query]


def rate(metric: str, legend: str, by: str = "instance", extra: str = "") -> Query:
    """A counter's increase a second."""
    labels = f"{_SERVERS}{extra}"
    return Query(f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))", legend)


def gauge(metric: str, legend: str) -> Query:
    """A gauge as it is."""
    return Query(f"{metric}{{{_SERVERS}}}", legend)


def quantiles(metric: str) -> Sequence[Query]:
    """The median, p95 and p99 of a histogram, over the chosen servers."""
    inner = f"sum by (le) (rate({metric}_bucket{{{_SERVERS}}}[$__rate_interval]))"
    return [
        Query(f"histogram_quantile({share}, {inner})", f"p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    ]


def ratio(part: str, whole: str, legend: str) -> Query:
    """A counter's share in another's increase."""
    above = f"sum by (instance) (rate({part}{{{_SERVERS}}}[$__rate_interval]))"
    below = f"sum by (instance) (rate({whole}{{{_SERVERS}}}[$__rate_interval]))"
    return Query(f"{above} / ({below} > 0)", legend)


INSTANCE = "{{instance}}"

ROWS: dict[str, Sequence[Panel]] = {
    "What users see": [
        Panel("Time to the first token", "s", quantiles("glmserve_time_to_first_token_seconds")),
        Panel("Between two tokens", "s", quantiles("glmserve_inter_token_latency_seconds")),
        Panel("Whole requests", "s", quantiles("glmserve_request_duration_seconds")),
        Panel(
            "Answered HTTP requests",
            "reqps",
            [rate("glmserve_http_requests_total", "{{status}}", "status")],
        ),
        Panel(
            "Refused requests",
            "reqps",
            [rate("glmserve_requests_refused_total", "{{code}}", "code")],
        ),
        Panel(
            "How answers end",
            "reqps",
            [rate("glmserve_requests_finished_total", "{{reason}}", "reason")],
        ),
    ],
    "Load": [
        Panel(
            "Requests",
            "short",
            [
                gauge("glmserve_requests_running", f"{INSTANCE} running"),
                gauge("glmserve_requests_waiting", f"{INSTANCE} waiting"),
            ],
        ),
        Panel("Time in the queue", "s", quantiles("glmserve_request_queue_seconds")),
        Panel(
            "Tokens",
            "short",
            [
                rate("glmserve_output_tokens_total", f"{INSTANCE} output"),
                rate("glmserve_prompt_tokens_total", f"{INSTANCE} prompt"),
            ],
        ),
        Panel("Prompts", "short", quantiles("glmserve_request_prompt_tokens")),
        Panel("Answers", "short", quantiles("glmserve_request_output_tokens")),
        Panel(
            "Tokens of tenants",
            "short",
            [rate("glmserve_tenant_tokens_total", "{{tenant}} {{kind}}", "tenant, kind")],
        ),
    ],
    "Engine": [
        Panel("KV cache", "percentunit", [gauge("glmserve_kv_cache_usage_ratio", INSTANCE)]),
        Panel(
            "Prefix cache: share of prompt tokens found",
            "percentunit",
            [
                ratio(
                    "glmserve_prefix_cache_hits_total",
                    "glmserve_prefix_cache_queries_total",
                    INSTANCE,
                )
            ],
        ),
        Panel("Preemptions", "short", [rate("glmserve_preemptions_total", INSTANCE)]),
        Panel("Prefill", "s", quantiles("glmserve_request_prefill_seconds")),
        Panel("Steps", "short", [rate("glmserve_steps_total", INSTANCE)]),
        Panel(
            "Drafts: share that was right",
            "percentunit",
            [ratio("glmserve_accepted_tokens_total", "glmserve_drafted_tokens_total", INSTANCE)],
        ),
    ],
    "Failures": [
        Panel("Worker restarts", "short", [rate("glmserve_worker_restarts_total", INSTANCE)]),
        Panel("Ranks that are up", "short", [gauge("glmserve_rank_up", INSTANCE + " {{rank}}")]),
        Panel(
            "Commits of the journal that failed",
            "short",
            [rate("glmserve_journal_commit_failures_total", INSTANCE)],
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's format."""
    return {
        "title": "glmserve",
        "uid": "glmserve",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    for name, label in (("instance", "instance"), ("model", "model_name")):
        yield {
            "name": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": f"label_values(glmserve_requests_running, {label})",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS.items():
        yield _row(number, title, top)
        number, top = number + 1, top + 1
        for index, panel in enumerate(panels):
            place = divmod(index, _COLUMNS)
            yield _graph(number, panel, top + place[0] * _HEIGHT, place[1] * _WIDTH)
            number += 1
        top += -(-len(panels) // _COLUMNS) * _HEIGHT


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    grid = {"h": 1, "w": 24, "x": 0, "y": top}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid}


def _graph(number: int, panel: Panel, top: int, left: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": left, "y": top},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
