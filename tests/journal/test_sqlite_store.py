"""The journal's database: what it survives, and what it refuses."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.errors import OptionError, StartupError
from glmserve.journal import Delta, Entry, Phase, SqliteStore
from glmserve.journal.batch import Batch
from glmserve.journal.sqlite_store import FORMAT

FRAME = 24 + 4096  # bytes of a page in the log, with its header
LOG_HEADER = 32
NOW = 1000.0


def entry(number: int) -> Entry:
    return Entry(
        id=number,
        stream_id=f"{number:032x}",
        owner="",
        path="/v1/completions",
        digest=bytes(32),
        is_stream=True,
        idempotency_key=None,
        created=NOW,
    )


def batch_of(number: int) -> Batch:
    """Every third begins a request, and all of them add to those there are."""
    inserts = [(entry(1 + number // 3), b"{}" * 50)] if number % 3 == 0 else []
    deltas = [(1 + i, Delta(0, [number, i])) for i in range(1 + number // 3)]
    return Batch(inserts=inserts, deltas=deltas)


def deltas_of(store: SqliteStore, number: int) -> list[Delta]:
    record = store.load(number)
    assert record is not None
    return record.deltas


def contents(store: SqliteStore) -> dict[int, list[list[int]]]:
    """Token ids of all deltas by entry."""
    numbers = [e.id for e in store.recover(NOW, 60.0)]
    return {number: [d.token_ids for d in deltas_of(store, number)] for number in numbers}


def expected(num_batches: int) -> dict[int, list[list[int]]]:
    """What is there after so many batches."""
    found: dict[int, list[list[int]]] = {}
    for number in range(num_batches):
        for i in range(1 + number // 3):
            found.setdefault(1 + i, []).append([number, i])
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "journal", "model", 2**20)
    yield store
    store.close()


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Path]:
    """A folder as a killed server leaves it after nine batches, all in the log."""
    store = SqliteStore(tmp_path / "open", "model", 2**20)
    for number in range(9):
        store.write(batch_of(number))
    shutil.copytree(tmp_path / "open", tmp_path / "killed")
    yield tmp_path / "killed"
    store.close()


def test_nothing_is_left_of_deleted_entries(store: SqliteStore) -> None:
    for number in range(6):
        store.write(batch_of(number))
    store.write(Batch(deletes=[1, 2]))
    with sqlite3.connect(":memory:") as other:
        store._db.backup(other)
        for table in ("request", "delta"):
            assert other.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_deleted_entries_give_the_disk_back(store: SqliteStore) -> None:
    store.write(Batch([(entry(1), bytes(500_000))]))
    store.write(Batch(deletes=[1]))
    store.free_pages()
    assert store._db.execute("PRAGMA page_count").fetchone()[0] < 20


def cuts_of(log: bytes, *, every_byte: bool) -> list[int]:
    """Lengths to cut a log to: in its last three frames, at their bounds and within."""
    last = len(log) - 3 * FRAME
    bounds = [bound + i for bound in range(last, len(log), FRAME) for i in (-1, 0, 1, 23, 24, 25)]
    return list(range(last, len(log) + 1)) if every_byte else [*bounds, *range(last, len(log), 487)]


@pytest.mark.parametrize(
    "every_byte", [False, pytest.param(True, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_a_torn_log_is_a_shorter_one(killed: Path, tmp_path: Path, every_byte: bool) -> None:
    log = (killed / "journal.sqlite-wal").read_bytes()
    assert (len(log) - LOG_HEADER) % FRAME == 0
    found = set()
    torn = tmp_path / "torn"
    for length in cuts_of(log, every_byte=every_byte):
        shutil.rmtree(torn, ignore_errors=True)
        shutil.copytree(killed, torn)
        (torn / "journal.sqlite-wal").write_bytes(log[:length])
        store = SqliteStore(torn, "model", 2**20)
        state = contents(store)
        store.close()
        lengths = [n for n in range(10) if expected(n) == state]
        assert lengths, state
        found.add(lengths[0])
    assert len(found) > 2


@pytest.mark.parametrize("where", range(LOG_HEADER + FRAME, LOG_HEADER + 8 * FRAME, 3001))
def test_a_log_with_a_wrong_byte_ends_before_it(killed: Path, where: int) -> None:
    log = bytearray((killed / "journal.sqlite-wal").read_bytes())
    log[where] ^= 0x40
    (killed / "journal.sqlite-wal").write_bytes(log)
    store = SqliteStore(killed, "model", 2**20)
    state = contents(store)
    store.close()
    assert any(expected(n) == state for n in range(10))


@pytest.mark.parametrize("kept", [0, 1, 99, 100, 3000, 4095, 4096, 4097, 10_000, 16_384, 20_000])
def test_a_torn_database_is_refused_or_whole(store: SqliteStore, tmp_path: Path, kept: int) -> None:
    for number in range(9):
        store.write(batch_of(number))
    store.close()  # puts the log into the database
    path = tmp_path / "journal" / "journal.sqlite"
    whole = path.read_bytes()
    assert len(whole) > 20_000
    path.write_bytes(whole[:kept])
    try:
        again = SqliteStore(tmp_path / "journal", "model", 2**20)
    except StartupError as error:
        assert "damaged" in str(error)
        assert f"{path}*" in str(error)
    else:
        assert contents(again) == {}
        assert kept < 2  # SQLite takes such a file for an empty one
        again.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_text("notes of a person" * 300)
    with pytest.raises(StartupError, match="damaged"):
        SqliteStore(tmp_path, "model", 2**20)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(OptionError, match="no journal of glmserve's"):
        SqliteStore(tmp_path, "model", 2**20)
    assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_second_server_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="in use by another server"):
        SqliteStore(tmp_path / "journal", "model", 2**20)


@pytest.mark.parametrize(("version", "word"), [(FORMAT + 1, "newer"), (FORMAT - 1, "older")])
def test_another_format_is_refused(
    store: SqliteStore, tmp_path: Path, version: int, word: str
) -> None:
    store._db.execute(f"PRAGMA user_version = {version}")
    store.close()
    with pytest.raises(OptionError, match=f"{word} glmserve"):
        SqliteStore(tmp_path / "journal", "model", 2**20)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"--journal .*: file exists"):
        SqliteStore(tmp_path / "file", "model", 2**20)


def test_prompts_are_for_nobody_else_to_read(store: SqliteStore, tmp_path: Path) -> None:
    store.write(batch_of(0))
    folder = tmp_path / "journal"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {path.name for path in files} >= {"journal.sqlite", "journal.sqlite-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_finished_entries_make_room_the_oldest_first(store: SqliteStore) -> None:
    for number in range(1, 6):
        phase = Phase.RUNNING if number == 1 else Phase.COMPLETE
        store.write(
            Batch([(entry(number), bytes(180_000))], phases=[(number, phase, NOW + number)])
        )
    store.write(Batch([(entry(6), bytes(180_000))]))
    assert [e.id for e in store.recover(NOW, 60.0)] == [1, 4, 5, 6]


def test_what_recovers_and_for_how_long(store: SqliteStore) -> None:
    ends = {1: (Phase.RUNNING, None), 2: (Phase.COMPLETE, NOW + 5), 3: (Phase.ABANDONED, NOW - 5)}
    for number, (phase, expires) in ends.items():
        store.write(Batch([(entry(number), b"")], phases=[(number, phase, expires)]))
    first, second = store.recover(NOW, 60.0)
    assert (first.id, first.phase, first.expires) == (1, Phase.RUNNING, NOW + 60.0)
    assert (second.id, second.phase, second.expires) == (2, Phase.COMPLETE, NOW + 5)


def test_a_request_that_four_servers_died_of_is_given_up(store: SqliteStore) -> None:
    store.write(Batch([(entry(1), b""), (entry(2), b"")]))
    found = []
    for _ in range(5):
        found.append([e.id for e in store.recover(NOW, 60.0)])
        store.write(Batch(attempts=[(2, 1)]))
    assert found == [[1, 2], [1, 2], [1, 2], [1], [1]]
