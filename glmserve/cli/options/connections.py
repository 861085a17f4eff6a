"""Options for connections: time limits, and their number."""

from __future__ import annotations

import argparse

from glmserve.cli import values
from glmserve.cli.descriptors import raise_limit, room_for_connections
from glmserve.config import ConnectionConfig


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "connections" to a command."""
    group = parser.add_argument_group("connections")
    defaults = ConnectionConfig()

    def add_time(option: str, default: float, text: str) -> None:
        group.add_argument(
            option, type=values.seconds, default=default, metavar="SECONDS", help=text
        )

    add_time(
        "--header-timeout",
        defaults.header_timeout,
        "longest time from the first byte of a request's head to its last, and for a TLS "
        "handshake; a late request gets 408; 0: no limit",
    )
    add_time(
        "--body-timeout",
        defaults.body_timeout,
        "a request gets 408 if its body sends nothing for so long, or less than 500 bytes per "
        "second; 0: no limit",
    )
    add_time(
        "--idle-timeout",
        defaults.idle_timeout,
        "a connection without a request is closed after so long; 0: never",
    )
    add_time(
        "--write-timeout",
        defaults.write_timeout,
        "a client that reads less than 500 bytes per second for so long, although more is ready, "
        "is disconnected; 0: never",
    )
    group.add_argument(
        "--max-connections",
        type=values.positive,
        metavar="N",
        help="connections at once; further ones get 503, except for /health; default: 4096, or "
        "fewer if the limit of open files is lower (the server raises it as far as it may)",
    )


def connection_config(options: argparse.Namespace) -> ConnectionConfig:
    """The limits of connections. Raises the process's limit of open files."""
    return ConnectionConfig(
        header_timeout=options.header_timeout,
        body_timeout=options.body_timeout,
        idle_timeout=options.idle_timeout,
        write_timeout=options.write_timeout,
        max_connections=room_for_connections(options.max_connections, raise_limit()),
    )
