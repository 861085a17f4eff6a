"""Whether two versions of glmserve answer alike, byte for byte.

    python bench/wire.py record --to before
    python bench/wire.py record --to after --checkout ../other
    python bench/wire.py compare before after

`record` starts servers of glm-tiny on the CPU, sends them the requests of `wire_requests`, one
after another, each over a socket of its own, and writes status, headers and body of every answer
to a file. Placeholders replace ids, times, ports and the values of metrics. All requests are greedy
or seeded, so two recordings of one version on one machine are equal. A request for a stream is sent
several times, because how many tokens share an event depends on time; see wire_streams.py.
`compare` prints what differs and ends with exit code 1 if anything does.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from local_server import LocalServer
from wire_http import exchange
from wire_record import readable_lines, record_of
from wire_references import Exchange, resolved
from wire_requests import SERVERS, WireServer
from wire_requests.request import WireRequest
from wire_streams import finest

_LONGEST_DIFF = 60  # lines of one answer's
_LONGEST_LINE = 400  # characters of one of these


def record(folder: Path, servers: Sequence[WireServer], checkout: Path | None) -> int:
    """Record the answers of these servers into a new folder.

    Args:
        checkout: see LocalServer.

    Returns:
        the number of answers.
    """
    if folder.exists():
        shutil.rmtree(folder)
    count = 0
    for server in servers:
        into = folder / server.name
        into.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as own:
            for name, text in server.files:
                Path(own, name).write_text(text)
                Path(own, name).chmod(0o600)
            with LocalServer(*server.arguments(Path(own)), checkout=checkout) as running:
                count += _record_answers(server, running.url, into)
    return count


def _record_answers(server: WireServer, url: str, into: Path) -> int:
    host, _, port = url.removeprefix("http://").partition(":")
    exchanges: dict[str, Exchange] = {}
    for request in server.requests:

        def send(attempt: int, request: WireRequest = request) -> Exchange:
            sent = resolved(request, exchanges, attempt)
            address = (host, int(port))
            return Exchange(
                sent, exchange(address, sent.method, sent.path, sent.headers, sent.body)
            )

        if request.name in exchanges:
            raise ValueError(f"two requests are named {request.name!r}")
        exchanges[request.name] = send(0) if request.is_sent_once else finest(send)
        path = into / file_name(request.name)
        text = record_of(request, exchanges[request.name].answer)
        path.write_text(text, encoding="utf-8", newline="")
    return len(exchanges)


def file_name(name: str) -> str:
    """Of the recording of the request with this name."""
    return re.sub(r"[^\w-]+", "-", name) + ".txt"


def differences(before: Path, after: Path) -> Iterator[str]:
    """A readable report on each answer that the two recordings do not share."""
    names = [{str(p.relative_to(f)) for p in f.rglob("*.txt")} for f in (before, after)]
    for name in sorted(names[0] | names[1]):
        if name not in names[0] or name not in names[1]:
            yield f"=== {name}: only in {before if name in names[0] else after}"
            continue
        texts = [Path(f, name).read_bytes().decode() for f in (before, after)]
        if texts[0] != texts[1]:
            yield f"=== {name}\n" + "\n".join(_diff(texts[0], texts[1]))


def _diff(before: str, after: str) -> list[str]:
    lines = [list(readable_lines(text)) for text in (before, after)]
    found = list(difflib.unified_diff(lines[0], lines[1], "before", "after", lineterm="", n=2))[2:]
    if not found:
        return ["only line ends differ"]
    shown = [line[:_LONGEST_LINE] for line in found[:_LONGEST_DIFF]]
    return shown if len(found) <= _LONGEST_DIFF else [*shown, f"... {len(found)} lines"]


def compare(before: Path, after: Path) -> int:
    """Print the differences; the exit code."""
    count = sum(1 for _ in before.rglob("*.txt"))
    if count == 0:
        raise SystemExit(f"{before} has no recordings")
    reports = list(differences(before, after))
    for report in reports:
        print(report)
    print(f"{count} answers, {len(reports)} different")
    return 1 if reports else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="record the answers of one version")
    recording.add_argument("--to", type=Path, required=True, help="folder; it is replaced")
    recording.add_argument(
        "--checkout", type=Path, help="source to run; default: what is installed"
    )
    all_names = [server.name for server in SERVERS]
    recording.add_argument("--only", nargs="+", choices=all_names, default=all_names)
    comparison = commands.add_parser("compare", help="compare two recordings")
    comparison.add_argument("before", type=Path)
    comparison.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        sys.exit(compare(options.before, options.after))
    servers = [server for server in SERVERS if server.name in options.only]
    checkout = options.checkout.resolve() if options.checkout else None
    print(f"{record(options.to, servers, checkout)} answers in {options.to}")


if __name__ == "__main__":
    main()
