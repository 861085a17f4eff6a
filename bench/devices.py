"""Devices against each other: batch size x input length x output length, through HTTP, in turn.

    python bench/devices.py --server="--device cpu" --server="--checkpoint COMPILED"
    python bench/devices.py --server="--device cpu --dtype float32" --server="--device cpu" \\
        --batch 1 4 16 --input 32 512 --output 64 --rounds 3

Each --server has the options of one `glmserve serve`. All servers stay up; each cell of the matrix
goes to one after the other, so that ratios hold on a machine whose speed drifts. Prompts are random
ids that no prefix cache has seen. Answers have exactly the output length.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from local_server import LocalServer
from served import Served, complete

_LOWEST_ID, _HIGHEST_ID = 100, 1000  # in the vocabulary of every model, and none is special


class Cell(NamedTuple):
    """One place in the matrix."""

    batch: int
    input_tokens: int
    output_tokens: int


class Row(NamedTuple):
    """What one server reached in one cell: medians over the rounds."""

    cell: Cell
    server: str
    tokens_per_second: float
    """Of output."""
    first_token_ms: float
    inter_token_ms: float
    ratio: float
    """Tokens per second over the first server's of the same round."""


def main() -> None:
    options = read_options()
    with ExitStack() as stack:
        urls = [
            stack.enter_context(LocalServer(*shlex.split(server))).url for server in options.server
        ]
        rows = []
        print(
            f"{'batch':>5}{'input':>7}{'output':>7}{'tokens/s':>10}{'first ms':>10}"
            f"{'next ms':>9}{'ratio':>7}  server"
        )
        for row in measure(options, urls):
            rows.append(row)
            print(
                f"{row.cell.batch:5}{row.cell.input_tokens:7}{row.cell.output_tokens:7}"
                f"{row.tokens_per_second:10.1f}{row.first_token_ms:10.1f}"
                f"{row.inter_token_ms:9.2f}{row.ratio:7.2f}  {row.server}",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps([_flat(row) for row in rows], indent=1) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", action="append", required=True, help="options of one server; repeat it"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16], help="requests at once")
    parser.add_argument("--input", type=int, nargs="+", default=[32, 512], help="prompt tokens")
    parser.add_argument("--output", type=int, nargs="+", default=[64], help="answer tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    return parser.parse_args()


def measure(options: argparse.Namespace, urls: list[str]) -> Iterator[Row]:
    """Yield a row for each cell and server."""
    for batch in options.batch:
        for input_tokens in options.input:
            for output_tokens in options.output:
                cell = Cell(batch, input_tokens, output_tokens)
                rounds = [measure_once(cell, urls, number) for number in range(options.rounds + 1)]
                yield from summarize(cell, options.server, rounds[1:])  # the first warms up


def measure_once(cell: Cell, urls: list[str], seed: int) -> list[Served]:
    """The cell on each server."""
    rng = random.Random(f"{cell} {seed}")
    prompts = [
        [rng.randrange(_LOWEST_ID, _HIGHEST_ID) for _ in range(cell.input_tokens)]
        for _ in range(cell.batch)
    ]
    return [complete(url, prompts, cell.output_tokens, cell.batch) for url in urls]


def summarize(cell: Cell, servers: list[str], rounds: list[list[Served]]) -> Iterator[Row]:
    """The medians of each server.

    Args:
        rounds: for each round, what each server reached.
    """
    for number, server in enumerate(servers):
        own = [reached[number] for reached in rounds]
        yield Row(
            cell,
            server,
            median(served.tokens_per_second for served in own),
            median(served.first_token_ms for served in own),
            median(served.inter_token_ms for served in own),
            median(
                reached[number].tokens_per_second / reached[0].tokens_per_second
                for reached in rounds
            ),
        )


def _flat(row: Row) -> dict[str, object]:
    return {**row.cell._asdict(), **{k: v for k, v in row._asdict().items() if k != "cell"}}


if __name__ == "__main__":
    main()
