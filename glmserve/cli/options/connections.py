"""How long clients may take, and how many there may be."""

from __future__ import annotations

import argparse

from glmserve.cli import values
from glmserve.cli.descriptors import raise_limit, room_for_connections
from glmserve.config import ConnectionConfig


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("connections")
    defaults = ConnectionConfig()

    def add_time(option: str, default: float, text: str) -> None:
        group.add_argument(
            option, type=values.seconds, default=default, metavar="SECONDS", help=text
        )

    add_time(
        "--header-timeout",
        defaults.header_timeout,
        "from the first byte of a request's head to its last, and for a TLS handshake; 0: no limit",
    )
    add_time(
        "--body-timeout",
        defaults.body_timeout,
        "a body that brings no byte for so long, or less than 500 bytes a second, gets 408; "
        "0: no limit",
    )
    add_time(
        "--idle-timeout",
        defaults.idle_timeout,
        "a connection without a request is closed after it; 0: never",
    )
    add_time(
        "--write-timeout",
        defaults.write_timeout,
        "a client that takes less than 500 bytes a second for so long, though more is there, is "
        "cut off; 0: never",
    )
    group.add_argument(
        "--max-connections",
        type=values.positive,
        metavar="N",
        help="more get 503, but for /health; default: 4096, or what the limit of open files has "
        "room for",
    )


def connection_config(options: argparse.Namespace) -> ConnectionConfig:
    """What connections have to keep to. Raises the process's limit of open files."""
    return ConnectionConfig(
        header_timeout=options.header_timeout,
        body_timeout=options.body_timeout,
        idle_timeout=options.idle_timeout,
        write_timeout=options.write_timeout,
        max_connections=room_for_connections(options.max_connections, raise_limit()),
    )
