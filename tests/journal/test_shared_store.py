"""A store of several servers: leases, fences, and a Redis that dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from glmserve.config import RedisAddress
from glmserve.errors import OptionError, StartupError
from glmserve.journal import Claim, Delta, Entry, EntryBusyError, Phase, StoreError
from glmserve.journal.batch import Batch
from glmserve.journal.shared import connection
from glmserve.journal.shared.entries import id_of
from glmserve.journal.shared.scripts import PREFIX
from glmserve.journal.shared.store import RedisStore
from support.redis_server import RedisServer

redis = pytest.importorskip("redis", reason="needs the redis extra")

Open = Callable[[], RedisStore]


@pytest.fixture
def open_store(redis_address: RedisAddress) -> Iterator[Open]:
    opened = list[RedisStore]()

    def open_store() -> RedisStore:
        opened.append(RedisStore(redis_address, "model", 2**24))
        opened[-1]._connection.failed_at = -1000.0  # it need not wait before it adopts
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


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
        created=1.0,
    )


def tokens_of(store: RedisStore, number: int) -> list[int]:
    record = store.take(entry(number), Claim.STREAM)
    assert record is not None
    return [token for delta in record.deltas for token in delta.token_ids]


def is_dead(store: RedisStore) -> bool:
    """Whether its lease has ended."""
    name = f"{PREFIX}server:{store._server}"
    return not store._connection.run(lambda client: client.exists(name))


def die(store: RedisStore) -> None:
    """As if the process were gone and its lease had ended."""
    store._connection.run(lambda client: client.delete(f"{PREFIX}server:{store._server}"))


def test_who_takes_an_entry_has_it_alone(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.write(Batch([(entry(1), b"")], [(1, Delta(0, [1]))]))
    assert tokens_of(two, 1) == [1]
    written = one.write(Batch(deltas=[(1, Delta(0, [7]))], phases=[(1, Phase.COMPLETE, 9.0)]))
    assert written.taken == {1}
    assert two.write(Batch(deltas=[(1, Delta(0, [2]))])).taken == frozenset()
    one.write(Batch(deletes=[1]))
    assert tokens_of(one, 1) == [1, 2]


def test_a_whole_answer_is_left_to_a_server_that_lives(open_store: Open) -> None:
    one, two = open_store(), open_store()
    asked = entry(1, is_stream=False, key="k")
    assert one.reserve(asked)
    assert not two.reserve(entry(2, key="k"))
    with pytest.raises(EntryBusyError):
        two.find_key("", "k")  # it is reserved and not yet accepted
    one.write(Batch([(asked, b"")]))
    with pytest.raises(EntryBusyError):
        two.take(asked, Claim.KEY)
    die(one)
    assert two.take(asked, Claim.KEY) is not None
    assert one.write(Batch(deltas=[(1, Delta(0, [7]))])).taken == {1}


def test_a_refused_request_gives_its_key_back(open_store: Open) -> None:
    one, two = open_store(), open_store()
    assert one.reserve(entry(1, key="k"))
    one.write(Batch(refused=[entry(1, key="k")]))
    assert two.find_key("", "k") is None
    assert two.reserve(entry(2, key="k"))


def test_an_orphan_is_claimed_once(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.write(Batch([(entry(1, is_stream=False), b"")]))
    assert two.find_orphan("", bytes(32)) is None  # a client waits for it
    one.write(Batch(phases=[(1, Phase.ABANDONED, time.time() + 60)]))
    orphan = two.find_orphan("", bytes(32))
    assert orphan is not None
    assert two.take(orphan, Claim.ORPHAN) is not None
    with pytest.raises(EntryBusyError):
        one.take(orphan, Claim.ORPHAN)
    assert one.find_orphan("", bytes(32)) is None


def test_whole_answers_of_a_dead_server_are_adopted_once(open_store: Open) -> None:
    one, two, three = open_store(), open_store(), open_store()
    one.write(Batch([(entry(n, is_stream=n == 4), b"b") for n in (1, 2, 3, 4)]))
    one.write(Batch(phases=[(1, Phase.COMPLETE, time.time() + 60)]))
    assert two.adopt(time.time() + 60) == []
    die(one)
    assert {e.id for e in two.adopt(time.time() + 60)} == {2, 3}
    assert three.adopt(time.time() + 60) == []
    assert two.load_body(2) == b"b"
    orphan = three.find_orphan("", bytes(32))
    assert orphan is not None
    assert two.take(entry(2, is_stream=False), Claim.OWN) is not None
    assert tokens_of(three, 2) == []
    with pytest.raises(EntryBusyError):
        two.take(entry(2, is_stream=False), Claim.OWN)
    three.tend(time.time() + 61, 60.0)
    assert three.take(entry(4), Claim.STREAM) is None  # it had an expiry as well


def test_what_a_server_leaves_at_its_end_is_adopted(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.write(Batch([(entry(1, is_stream=False), b"")]))
    one.write(Batch(phases=[(1, Phase.RUNNING, time.time() + 60)]))
    assert [e.id for e in two.adopt(time.time() + 60)] == [1]


def test_a_request_that_three_servers_died_of_is_given_up(open_store: Open) -> None:
    store = open_store()
    store.write(Batch([(entry(1, is_stream=False), b"")]))
    found = []
    for _ in range(4):
        before, store = store, open_store()
        die(before)
        adopted = store.adopt(time.time() + 60)
        found.append([e.id for e in adopted])
        store.write(Batch(attempts=[(number, 1) for number in found[-1]]))
    assert found == [[1], [1], [1], []]
    assert store.take(entry(1, is_stream=False), Claim.KEY) is None


def test_a_request_that_found_no_room_is_not_given_up(open_store: Open) -> None:
    store = open_store()
    store.write(Batch([(entry(1, is_stream=False), b"")]))
    for _ in range(5):
        before, store = store, open_store()
        die(before)
        assert [e.id for e in store.adopt(time.time() + 60)] == [1]
        store.write(Batch(attempts=[(1, 1)]))
        left = [(1, Phase.RUNNING, time.time() + 60)]
        store.write(Batch(phases=left, attempts=[(1, -1)]))


def test_entries_expire(open_store: Open) -> None:
    store = open_store()
    now = time.time()
    store.write(Batch([(entry(1, key="k"), b""), (entry(2), b"")], [(1, Delta(0, [1]))]))
    store.write(Batch(phases=[(1, Phase.COMPLETE, now + 5), (2, Phase.ABANDONED, now + 50)]))
    store.tend(now + 10, 60.0)
    assert store.find_key("", "k") is None
    assert store.take(entry(1), Claim.STREAM) is None
    store.write(Batch(deletes=[2]))  # not this server's any more
    assert tokens_of(store, 2) == []
    store.write(Batch(deletes=[2]))
    store.tend(now, 60.0)
    assert store.num_bytes == 0


def test_a_store_that_lost_its_last_commits_is_noticed(open_store: Open) -> None:
    store = open_store()
    store.write(Batch([(entry(1), b"")], [(1, Delta(0, [1])), (1, Delta(0, [2]))]))
    store._connection.run(lambda client: client.rpop(f"{PREFIX}d:{entry(1).stream_id}"))
    assert store.write(Batch(deltas=[(1, Delta(0, [3]))])).gone == {1}
    assert tokens_of(store, 1) == [1]


def test_a_store_that_came_back_empty_is_the_same_journal(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.write(Batch([(entry(1), b"")]))
    one._connection.run(lambda client: client.flushdb())
    assert one.write(Batch(deltas=[(1, Delta(0, [3]))])).gone == {1}
    two.write(Batch([(entry(2), b"")], [(2, Delta(0, [2]))]))
    assert tokens_of(one, 2) == [2]
    assert open_store().secret == one.secret


def test_a_store_that_became_another_journal_is_not_written(
    open_store: Open, redis_address: RedisAddress
) -> None:
    store = open_store()
    store._connection.run(lambda client: client.flushdb())
    RedisStore(redis_address, "another model", 2**20).close()
    with pytest.raises(StoreError, match="another model"):
        store.write(Batch([(entry(1), b"")]))


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A Redis that a test may kill. Stores wait for it, and leave it in peace, for a long time."""
    monkeypatch.setattr(connection, "_TIMEOUT", 60.0)
    monkeypatch.setattr(connection, "_PAUSE", 1000.0)
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def let_pause_pass(store: RedisStore) -> None:
    store._connection._silent_until = 0.0


def wait_at_most(store: RedisStore, seconds: float) -> None:
    """Bound the wait for answers on the connection that there is."""
    (open_connection,) = store._connection._client.connection_pool._available_connections
    open_connection._parser._buffer.socket_timeout = seconds
    open_connection._sock.settimeout(seconds)


def count_commands(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The commands that the store is sent from now on."""
    client = store._connection._client
    sent: list[object] = []
    execute = client.execute_command

    def counted(*command: object, **options: object) -> object:
        sent.append(command)
        return execute(*command, **options)

    monkeypatch.setattr(client, "execute_command", counted)
    return sent


def test_a_store_that_dies_and_comes_back(
    mortal: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore(RedisAddress(mortal.url()), "model", 2**20)
    store.write(Batch([(entry(1), b"")], [(1, Delta(0, [1]))]))
    mortal.stop()
    asked = count_commands(store, monkeypatch)
    for _ in range(3):
        with pytest.raises(StoreError):
            store.write(Batch([(entry(2), b"")], [(1, Delta(0, [2]))]))
    assert len(asked) == 1
    with pytest.raises(StoreError):
        store.find_stream("", entry(1).stream_id)
    assert store.adopt(time.time()) == []
    mortal.start()
    let_pause_pass(store)
    assert not store.write(Batch([(entry(3), b"")])).gone
    assert tokens_of(store, 1) == [1]
    store.close()


def test_a_store_that_hangs_is_not_waited_for_and_nothing_waits_for_its_entries(
    mortal: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may do later what it was asked to do."""
    one, two = (RedisStore(RedisAddress(mortal.url()), "model", 2**20) for _ in range(2))
    begun, ended = entry(1, is_stream=False, key="a"), entry(2, is_stream=False, key="b")
    one.write(Batch([(ended, b"")]))
    mortal.send(signal.SIGSTOP)
    wait_at_most(one, 0.2)
    asked = count_commands(one, monkeypatch)
    batch = Batch([(begun, b"")], phases=[(2, Phase.COMPLETE, time.time() + 60)])
    for _ in range(20):
        with pytest.raises(StoreError):
            one.write(batch)
    assert len(asked) == 1
    mortal.send(signal.SIGCONT)
    let_pause_pass(one)
    one.tend(time.time(), 60.0)
    for left in (begun, ended):
        assert two.take(left, Claim.KEY) is not None
    for store in (one, two):
        store.close()


def test_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = RedisServer(tmp_path, "--requirepass", "sesame")
    try:
        for word in (None, "wrong"):
            if word:
                monkeypatch.setenv("GLMSERVE_JOURNAL_PASSWORD", word)
            with pytest.raises(OptionError, match="GLMSERVE_JOURNAL_PASSWORD") as refused:
                RedisStore(RedisAddress(server.url()), "model", 2**20)
            assert "wrong" not in refused.value.message
        monkeypatch.setenv("GLMSERVE_JOURNAL_PASSWORD", "sesame")
        RedisStore(RedisAddress(server.url()), "model", 2**20).close()
    finally:
        server.stop()


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"--journal unix://\S*/nothing.sock cannot be used: "):
        RedisStore(RedisAddress(f"unix://:secret@{tmp_path}/nothing.sock"), "model", 2**20)


def test_an_address_is_shown_without_its_password() -> None:
    shown = str(RedisAddress("rediss://me:secret@host:7000/2?ssl_ca_certs=/x&password=secret"))
    assert shown == "rediss://host:7000/2"
    assert "secret" not in repr(RedisAddress("redis://:secret@host"))


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["take", "append", "append", "finish", "die", "adopt", "tend"]),
        st.integers(0, 2),
    ),
    max_size=30,
)


@given(ACTIONS)
@example([("die", 0), ("adopt", 1), ("take", 0), ("adopt", 1)])  # dead again before it has a lease
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_interleaving_of_servers_leaves_one_record(
    redis_address: RedisAddress, actions: list[tuple[str, int]]
) -> None:
    """Each server goes on from the record that it took, and believes in it until it is told."""
    with redis.Redis.from_url(redis_address.url) as client:
        client.flushdb()
    stores = [RedisStore(redis_address, "model", 2**20) for _ in range(3)]
    for store in stores:
        store._connection.failed_at = -1000.0
    asked = entry(1, is_stream=False, key="k")
    stores[0].write(Batch([(asked, b"")]))
    believed: dict[int, list[int]] = {0: []}  # by server: the record as it knows it
    written: list[int] = []  # the record as it must be
    owner = 0
    is_ended = False
    for action, number in actions:
        store = stores[number]
        if action == "take":
            record = store.take(asked, Claim.STREAM)
            assert record is not None
            believed[number] = [delta.token_ids[0] for delta in record.deltas]
            assert believed[number] == written
            owner, is_ended = number, False
        elif action == "append" and number in believed:
            token = len(believed[number])
            result = store.write(Batch(deltas=[(1, Delta(0, [token]))]))
            assert (1 in result.taken) == (number != owner)
            if number == owner:
                written.append(token)
                believed[number].append(token)
            else:
                del believed[number]
        elif action == "finish" and number in believed:
            store.write(Batch(phases=[(1, Phase.ABANDONED, time.time() + 60)]))
            is_ended = is_ended or number == owner
            del believed[number]
        elif action == "die":
            die(store)
        elif action == "adopt":
            was_dead = is_dead(stores[owner])
            adopted = store.adopt(time.time() + 60)
            assert bool(adopted) == (was_dead and not is_ended and number != owner)
            if adopted:
                owner, believed[number] = number, list(written)
                assert store.take(asked, Claim.OWN) is not None
        else:
            store.tend(time.time(), 60.0)
    record = stores[0].take(asked, Claim.STREAM)
    assert record is not None
    assert [delta.token_ids[0] for delta in record.deltas] == written == list(range(len(written)))
    for store in stores:
        store.close()
