"""Options for watching a server: metrics, access log."""

from __future__ import annotations

import argparse

from glmserve.cli import values


def add_observation_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "observation" to a command."""
    group = parser.add_argument_group("observation")
    group.add_argument(
        "--access-log",
        choices=("text", "json"),
        help="write a line to the standard output for each request that has been answered: id, "
        "name of the key, route, status, tokens, times; never content",
    )
    group.add_argument(
        "--metrics-compat",
        choices=("vllm",),
        help="show the metrics under the names of another server as well, for dashboards, "
        "autoscalers and routers that were made for it",
    )
    group.add_argument(
        "--otlp-traces-endpoint",
        type=values.http_url,
        metavar="URL",
        help="send a span of OpenTelemetry for each request to this collector, by OTLP over HTTP, "
        "such as http://localhost:4318/v1/traces; needs glmserve[otel]",
    )
