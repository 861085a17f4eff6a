"""`glmserve compat`: the clients that the tests have run against this server.

`pytest -m clients --record-clients` writes the records, and the table in the guide.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

RECORDS = Path(__file__).parents[1] / "assets" / "clients.json"
PAGE = Path(__file__).parents[1] / "guide" / "apis.md"
_PLACE = re.compile(r"(?<=<!-- glmserve compat -->\n).*?(?=<!-- end -->)", re.DOTALL)
_HEAD = ("client", "version", "API", "what works")


class ClientRecord(msgspec.Struct, frozen=True):
    """What works in one version of a client, by one API."""

    client: str
    version: str
    api: str
    works: tuple[str, ...]


def add_command(commands: Commands) -> None:
    """Add `compat` to the command line."""
    parser = commands.add_parser(
        "compat",
        help="list the clients that are tested",
        description="List the clients that are tested against this version of glmserve: their "
        "versions, the APIs that they use, and what works.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    print(render_text(read_clients()))


def read_clients() -> list[ClientRecord]:
    """The records of the tests, by name and API."""
    return msgspec.json.decode(RECORDS.read_bytes(), type=list[ClientRecord])


def write_clients(clients: Iterable[ClientRecord]) -> None:
    """Write the records, and the table in the guide."""
    ordered = sorted(clients, key=lambda client: (client.client.lower(), client.api))
    RECORDS.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_PLACE.sub(render_markdown(ordered), page), encoding="utf-8")


def render_text(clients: Iterable[ClientRecord]) -> str:
    """The table for a terminal: columns of equal width."""
    rows = [_HEAD, *map(_cells, clients)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def render_markdown(clients: Iterable[ClientRecord]) -> str:
    """The table of the guide."""
    rows = [_HEAD, ("---",) * len(_HEAD), *map(_cells, clients)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def table_in_guide() -> str:
    """The table that the guide has now."""
    (table,) = _PLACE.findall(PAGE.read_text(encoding="utf-8"))
    return str(table)


def _cells(client: ClientRecord) -> tuple[str, ...]:
    return client.client, client.version, client.api, ", ".join(client.works)
