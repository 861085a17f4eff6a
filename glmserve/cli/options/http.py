"""How clients are listened to, and what is kept for them."""

from __future__ import annotations

import argparse

from glmserve.cli import values


def add_http_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("http")
    group.add_argument("--host", type=values.non_empty, default="127.0.0.1")
    group.add_argument("--port", type=values.port, default=8000)
    group.add_argument(
        "--drain-timeout",
        type=values.seconds,
        default=30.0,
        metavar="SECONDS",
        help="after SIGTERM or SIGINT, requests under way get as long to come to their end; a "
        "second signal ends them at once",
    )
    group.add_argument(
        "--max-body-size",
        type=values.num_bytes,
        default="8M",
        metavar="BYTES",
        help="of a request; larger ones get 413",
    )
    group.add_argument(
        "--cache-size",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="answer the last N different chat and text completions from a cache when they come "
        "again; 0: never",
    )
    group.add_argument(
        "--cache-list-size",
        type=values.positive,
        default=1,
        metavar="N",
        help="answers to collect for a request before it is answered with one of them at random",
    )
    group.add_argument(
        "--response-store-size",
        type=values.non_negative,
        default=1000,
        metavar="N",
        help="responses of /v1/responses to keep in memory for later ones to go on from; 0: none",
    )
    group.add_argument(
        "--cors-origin",
        type=values.origin,
        action="append",
        metavar="ORIGIN",
        help="web pages from there may call the server, like https://example.org, or * for any; "
        "repeatable",
    )
