"""What a commit to the journal takes: one delta of each stream, to SQLite and to Redis in turn.

    redis-server --port 0 --unixsocket /tmp/redis.sock --save '' --appendonly yes --dir /tmp &
    python bench/journal_commits.py --redis unix:///tmp/redis.sock

Prints the median time of a commit, and the CPU time of this process. The least of the rounds: other
work on the machine only adds to them.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from glmserve.config import RedisAddress
from glmserve.journal import Delta, Entry, SqliteStore, Store
from glmserve.journal.batch import Batch
from glmserve.journal.shared.entries import id_of
from glmserve.journal.shared.store import RedisStore

_COMMITS, _ROUNDS = 300, 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--redis", type=RedisAddress, help="a database for it alone")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, Store] = {"sqlite": SqliteStore(Path(folder), "bench", 2**30)}
        if options.redis is not None:
            stores["redis"] = RedisStore(options.redis, "bench", 2**30)
        for num_streams in options.streams:
            compare(stores, num_streams)
        for store in stores.values():
            store.close()


def compare(stores: dict[str, Store], num_streams: int) -> None:
    entries = [new_entry() for _ in range(num_streams)]
    for store in stores.values():
        store.write(Batch([(entry, b"x" * 200) for entry in entries]))
    rounds = [
        {name: measure(store, entries) for name, store in stores.items()} for _ in range(_ROUNDS)
    ]
    for name, store in stores.items():
        wall, cpu = (min(found[name][i] for found in rounds) for i in range(2))
        print(f"{num_streams:3} streams, {name}: {1e6 * wall:.0f} us, {1e6 * cpu:.0f} us of CPU")
        store.write(Batch(deletes=[entry.id for entry in entries]))


def measure(store: Store, entries: list[Entry]) -> tuple[float, float]:
    """Seconds of a commit: median, and CPU time."""
    seconds, before = [], time.process_time()
    for number in range(_COMMITS):
        batch = Batch(deltas=[(entry.id, Delta(0, [number])) for entry in entries])
        start = time.perf_counter()
        store.write(batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), (time.process_time() - before) / _COMMITS


def new_entry() -> Entry:
    stream_id = secrets.token_hex(16)
    return Entry(
        id=id_of(stream_id),
        stream_id=stream_id,
        owner="",
        path="/v1/completions",
        digest=bytes(32),
        is_stream=True,
        idempotency_key=None,
        created=time.time(),
    )


if __name__ == "__main__":
    main()
