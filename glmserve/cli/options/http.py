"""Options for HTTP: address, bodies, caches of answers, CORS."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import values


def add_http_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "HTTP" to a command."""
    group = parser.add_argument_group("HTTP")
    group.add_argument(
        "--host",
        type=values.non_empty,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0: all IPv4 interfaces",
    )
    group.add_argument(
        "--port",
        type=values.port,
        default=8000,
        metavar="N",
        help="TCP port to listen on; 0: any free port",
    )
    group.add_argument(
        "--uds",
        type=Path,
        metavar="PATH",
        help="listen on a Unix domain socket in place of --host and --port",
    )
    group.add_argument(
        "--root-path",
        type=values.root_path,
        default="",
        metavar="PATH",
        help="prefix of all paths behind a proxy, such as /glm; the proxy may remove it or not",
    )
    group.add_argument(
        "--drain-timeout",
        type=values.seconds,
        default=30.0,
        metavar="SECONDS",
        help="time that running requests have to finish after SIGTERM, SIGINT or SIGHUP; a "
        "second signal ends them at once",
    )
    group.add_argument(
        "--max-body-size",
        type=values.num_bytes,
        default="8M",
        metavar="BYTES",
        help="largest body of a request; larger ones get 413",
    )
    group.add_argument(
        "--ignore-unknown-fields",
        action="store_true",
        help="leave out fields of requests that this server does not know, and log each name once; "
        "without it, such a request is refused with the field's name",
    )
    group.add_argument(
        "--cache-size",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="keep the answers of the last N different chat and text completions, and send them "
        "again when the same request comes again, marked with X-Glmserve-Cache: hit; never across "
        "API keys; 0: off",
    )
    group.add_argument(
        "--cache-list-size",
        type=values.positive,
        default=1,
        metavar="N",
        help="with --cache-size: compute this many answers to a request before answering it with "
        "one of them, chosen at random",
    )
    group.add_argument(
        "--response-store-size",
        type=values.non_negative,
        default=1000,
        metavar="N",
        help="responses of /v1/responses to keep in memory, for previous_response_id and GET; 0: "
        "none",
    )
    group.add_argument(
        "--cors-origin",
        type=values.origin,
        action="append",
        metavar="ORIGIN",
        help="origin of web pages that may call the server, such as https://example.org; * allows "
        "all; may be given several times",
    )
    group.add_argument(
        "--page",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve the page for people at / and its board at /board; its files need no API key, "
        "what it asks for does",
    )
