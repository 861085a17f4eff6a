"""What holds of every store: one server's own in SQLite, and one of several servers in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glmserve.config import RedisAddress
from glmserve.contract.step import Logprobs
from glmserve.errors import OptionError
from glmserve.journal import (
    Claim,
    Delta,
    Entry,
    Journal,
    Phase,
    Record,
    SqliteStore,
    Store,
    StoreError,
)
from glmserve.journal.batch import Batch
from glmserve.journal.shared.entries import id_of
from glmserve.journal.shared.store import RedisStore

SIZE = 2**20
NOW = 1000.0

Open = Callable[[str], Store]


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store for a model; several servers may share one of Redis."""
    opened = list[Store]()

    def open_store(model: str = "model") -> Store:
        store: Store
        if request.param == "sqlite":
            store = SqliteStore(tmp_path / "journal", model, SIZE)
        else:
            store = RedisStore(address, model, SIZE)
        opened.append(store)
        return store

    if request.param == "redis":
        address: RedisAddress = request.getfixturevalue("redis_address")
    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store("model")


def entry(number: int, *, is_stream: bool = True, key: str | None = None) -> Entry:
    stream_id = f"{number:015x}".ljust(32, "0")
    return Entry(
        id=id_of(stream_id),
        stream_id=stream_id,
        owner="",
        path="/v1/completions",
        digest=bytes(32),
        is_stream=is_stream,
        idempotency_key=key,
        created=NOW,
    )


def record_of(store: Store, number: int) -> Record | None:
    if isinstance(store, RedisStore):
        return store.take(entry(number), Claim.STREAM)
    assert isinstance(store, SqliteStore)
    return store.load(number)


def deltas_of(store: Store, number: int) -> list[Delta]:
    record = record_of(store, number)
    assert record is not None
    return record.deltas


def test_what_was_written_is_read(store: Store) -> None:
    logprobs = Logprobs(-0.5, [1, 2], [-0.5, -1.0])
    delta = Delta(3, [7], 4, 12.5, 2, 3, 1, [logprobs], [logprobs])
    written = store.write(Batch([(entry(1), b"body \xff\0")], [(1, delta)]))
    assert not written.taken | written.gone
    store.write(Batch(deltas=[(1, Delta(0, [i])) for i in range(2100)]))
    assert store.load_body(1) == b"body \xff\0"
    assert deltas_of(store, 1) == [delta, *(Delta(0, [i]) for i in range(2100))]
    assert record_of(store, 2) is None
    assert store.num_bytes > 0


def test_deltas_of_many_entries_in_one_commit(store: Store) -> None:
    store.write(Batch([(entry(n), b"") for n in (1, 2, 3)]))
    store.write(Batch(deltas=[(n, Delta(0, [n, i])) for i in range(3) for n in (1, 2, 3)]))
    for n in (1, 2, 3):
        assert [delta.token_ids for delta in deltas_of(store, n)] == [[n, i] for i in range(3)]


def test_an_ended_entry_can_be_gone_on_with(store: Store) -> None:
    store.write(Batch([(entry(1), b"")], [(1, Delta(0, [1]))], [(1, Phase.ABANDONED, NOW)]))
    assert deltas_of(store, 1) == [Delta(0, [1])]
    store.write(Batch(phases=[(1, Phase.RUNNING, None)]))
    store.write(Batch(deltas=[(1, Delta(0, [2]))]))
    store.write(Batch(phases=[(1, Phase.COMPLETE, NOW)]))
    assert deltas_of(store, 1) == [Delta(0, [1]), Delta(0, [2])]


def test_deleted_entries_are_gone(store: Store) -> None:
    store.write(Batch([(entry(1), b""), (entry(2), b"")], [(1, Delta(0, [1]))]))
    store.write(Batch(deletes=[1]))
    assert record_of(store, 1) is None
    assert deltas_of(store, 2) == []


def test_a_full_store_keeps_what_it_has_and_works_again(store: Store) -> None:
    store.write(Batch([(entry(1), b"")], [(1, Delta(0, [1]))]))
    with pytest.raises(StoreError, match=r"full|FULL"):
        store.write(Batch([(entry(2), bytes(2 * SIZE))], [(1, Delta(0, [2]))]))
    assert deltas_of(store, 1) == [Delta(0, [1])]
    store.write(Batch(deltas=[(1, Delta(0, [3]))]))
    assert deltas_of(store, 1) == [Delta(0, [1]), Delta(0, [3])]


def test_finished_entries_make_room_the_oldest_first(store: Store) -> None:
    for number in range(1, 6):
        phases = [(number, Phase.COMPLETE, NOW + number)] if number > 1 else []
        store.write(Batch([(entry(number), bytes(180_000))], phases=phases))
    store.write(Batch([(entry(6), bytes(180_000))]))
    assert [n for n in range(1, 7) if record_of(store, n) is not None] == [1, 4, 5, 6]


def test_another_model_is_refused(open_store: Open) -> None:
    store = open_store("model")
    secret = store.secret
    store.close()
    with pytest.raises(OptionError, match="another model"):
        open_store("another")
    assert open_store("model").secret == secret


async def test_a_journal_finds_what_it_has(store: Store) -> None:
    journal = Journal(store, 60.0)
    accepted = {}
    for is_stream, key in ((True, None), (True, "s"), (False, "w"), (False, None)):
        made = await journal.reserve(
            "me", "/p", b"d" * 32, is_stream=is_stream, idempotency_key=key
        )
        assert made is not None
        await journal.begin(made, b"body").wait()
        accepted[is_stream, key] = made
        journal.record(made, Delta(0, [5]))
        journal.end(made, Phase.ABANDONED)
    entries = journal.entries
    for (_, key), made in accepted.items():
        found = await entries.find_stream("me", made.stream_id)
        assert found is not None and found.stream_id == made.stream_id
        assert await entries.find_stream("other", made.stream_id) is None
        if key is not None:
            by_key = await entries.find_key("me", key)
            assert by_key is not None and by_key.stream_id == made.stream_id
            assert await entries.find_key("other", key) is None
    orphan = await entries.find_orphan("me", b"d" * 32)
    assert orphan is not None and orphan.stream_id == accepted[False, None].stream_id
    record = await journal.take(orphan, Claim.ORPHAN)
    assert record is not None and record.deltas == [Delta(0, [5])]
    journal.resume(orphan)
    assert await entries.find_orphan("me", b"d" * 32) is None
    journal.delete(orphan)
    await journal.close()
