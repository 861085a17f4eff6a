"""The store of several servers: Redis or Valkey.

An entry belongs to the server that answers it. A server's lease lasts some seconds and is renewed
all the time. Taking an entry gives a new fence; commits with an old fence are left out.
Each delta has its place in the record, so a store that has lost its last commits is noticed.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import defaultdict
from typing import Any, NamedTuple

import msgspec

from glmserve.config import RedisAddress
from glmserve.journal.batch import Batch, Written
from glmserve.journal.entry import (
    Delta,
    Entry,
    Phase,
    Record,
    decode_delta,
    decode_entry,
    encode_delta,
    encode_entry,
)
from glmserve.journal.errors import EntryBusyError, StoreError
from glmserve.journal.group_commit import GroupCommit
from glmserve.journal.shared import scripts
from glmserve.journal.shared.connection import Connection
from glmserve.journal.shared.entries import SharedEntries, id_of
from glmserve.journal.store import Claim

LEASE = 5.0
"""Seconds without a sign of life after which other servers finish a server's answers."""
_RESERVED = 30_000
"""Milliseconds between the arrival of an idempotency key and the acceptance of its request."""
_MAX_ATTEMPTS = 3
"""Maximum number of attempts to finish a request; see SqliteStore."""
_ADOPTED_AT_ONCE = 32
_EXPIRED_AT_ONCE = 200
_ENTRY_BYTES, _DELTA_BYTES = 512, 16
"""Approximate memory of an entry and of a delta besides their contents."""

_FIRST = 5
"""Place of the first content among the arguments of scripts.COMMIT."""

_Operation = tuple[Any, ...]
_encode = msgspec.msgpack.Encoder().encode


class _Hold(NamedTuple):
    """What this server knows of an entry that it answers."""

    name: str
    fence: str
    num_deltas: int

    def with_one_more(self) -> _Hold:
        return self._replace(num_deltas=self.num_deltas + 1)


class RedisStore:
    """A journal that several servers of one model share. See Store.

    Args:
        address: of the Redis or Valkey.
        fingerprint: of the model.
        max_bytes: maximum size of what is kept, about; Redis needs some more.

    Raises:
        StartupError: see Connection.
    """

    def __init__(self, address: RedisAddress, fingerprint: str, max_bytes: int) -> None:
        self.place = str(address)
        self._connection = Connection(address, fingerprint)
        self.secret = self._connection.secret
        self._server = secrets.token_hex(8)
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._held: dict[int, _Hold] = {}
        self._is_unsure = False
        """Whether the store may have entries of this server that it does not answer."""
        with contextlib.suppress(StoreError):
            self.tend(time.time(), 0.0)

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def entries(self, commits: GroupCommit, keep: float) -> SharedEntries:
        return SharedEntries(self, commits, keep)

    def write(self, batch: Batch) -> Written:
        """Commit a batch in one round trip. See Store."""
        inserted = {entry.id: _Hold(entry.stream_id, "0", 0) for entry, _ in batch.inserts}
        self._held |= inserted
        try:
            taken, gone = self._commit(batch)
        except StoreError:
            self._let_go({*inserted, *_ended(batch)})
            self._is_unsure = True
            raise
        gone |= {number for number, _ in batch.deltas if number not in self._held}
        for number, _ in batch.deltas:
            if number in self._held:
                self._held[number] = self._held[number].with_one_more()
        self._let_go({*_ended(batch), *batch.deletes, *taken, *gone})
        return Written(frozenset(taken), frozenset(gone))

    def load_body(self, entry_id: int) -> bytes | None:
        hold = self._held.get(entry_id)
        if hold is None:
            return None
        key = f"{scripts.PREFIX}e:{hold.name}"
        body: bytes | None = self._connection.run(lambda client: client.hget(key, "body"))
        return body

    def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        """See Entries.find_stream."""
        entry = self._read_entry(stream_id)
        return entry if entry is not None and entry.owner == owner else None

    def find_key(self, owner: str, idempotency_key: str) -> Entry | None:
        """See Entries.find_key."""
        name = self._connection.run(lambda client: client.get(_key(owner, idempotency_key)))
        if name is None:
            return None
        entry = self._read_entry(name.decode())
        if entry is None:
            raise EntryBusyError
        return entry

    def find_orphan(self, owner: str, digest: bytes) -> Entry | None:
        """See Entries.find_orphan."""
        key = _orphans(owner, digest)
        names = self._connection.run(lambda client: client.zrange(key, 0, 0))
        return self._read_entry(names[0].decode()) if names else None

    def reserve(self, entry: Entry) -> bool:
        """Reserve an idempotency key for a new entry. False if it has one."""
        key, name = key_of(entry), entry.stream_id
        return bool(
            self._connection.run(lambda client: client.set(key, name, nx=True, px=_RESERVED))
        )

    def take(self, entry: Entry, claim: Claim) -> Record | None:
        """See Entries.take."""
        hold = self._held.get(entry.id)
        fence = hold.fence if hold is not None else ""
        name = entry.stream_id
        try:
            result, *rest = self._connection.script(
                scripts.TAKE, self._server, name, claim.value, fence
            )
        except StoreError:
            self._is_unsure = True
            raise
        if result == b"gone":
            return None
        if result == b"busy":
            raise EntryBusyError
        new_fence, data, deltas = rest
        self._held[entry.id] = _Hold(name, new_fence.decode(), len(deltas))
        return Record(decode_entry(data).notes, [decode_delta(delta) for delta in deltas])

    def adopt(self, expires: float) -> list[Entry]:
        """Take whole answers of servers whose leases have ended, some at once.

        Nothing is taken from servers that could not renew their leases because the store did not
        answer.

        Args:
            expires: for streams of those servers; Unix seconds.
        """
        if self._is_unsure or time.monotonic() - self._connection.failed_at < LEASE:
            return []
        found = self._connection.script(
            scripts.ADOPT, self._server, repr(expires), _ADOPTED_AT_ONCE, _MAX_ATTEMPTS
        )
        entries = []
        for name, fence, data in found:
            entry = decode_entry(data)
            entry.notes, entry.phase, entry.expires = b"", Phase.RUNNING, None
            self._held[entry.id] = _Hold(name.decode(), fence.decode(), 0)
            entries.append(entry)
        return entries

    def tend(self, now: float, keep: float) -> None:
        """Renew the lease, delete what has expired, and give up what failed operations left open.

        Args:
            now: Unix seconds.
            keep: seconds for which an answer can be fetched again.
        """
        if self._is_unsure:
            names = _encode([hold.name for hold in self._held.values()])
            self._connection.script(scripts.ABANDON, self._server, repr(now + keep), names)
            self._is_unsure = False
        num_expired = _EXPIRED_AT_ONCE
        while num_expired == _EXPIRED_AT_ONCE:
            self._num_bytes, num_expired = self._connection.script(
                scripts.TEND, self._server, round(LEASE * 1000), repr(now), _EXPIRED_AT_ONCE
            )

    def close(self) -> None:
        """End the lease, so that other servers need not wait for its end."""
        key = f"{scripts.PREFIX}server:{self._server}"
        with contextlib.suppress(StoreError):
            self._connection.run(lambda client: client.delete(key))
        self._connection.close()

    def _read_entry(self, name: str) -> Entry | None:
        key = f"{scripts.PREFIX}e:{name}"
        data = self._connection.run(lambda client: client.hget(key, "entry"))
        if data is None:
            return None
        entry = decode_entry(data)
        entry.notes = b""
        return entry

    def _commit(self, batch: Batch) -> tuple[set[int], set[int]]:
        """Ids of the entries that were taken, and of those that are gone."""
        held, contents = self._held, list[bytes]()
        inserts = [_insert(entry, body, contents) for entry, body in batch.inserts]
        deltas = self._deltas(batch.deltas, contents)
        ends = [
            (held[number].name, held[number].fence, str(int(phase)), repr(expires))
            for number, phase, expires in batch.phases
            if expires is not None and number in held
        ]
        operations = {
            "size": sum(insert[-1] for insert in inserts) + sum(delta[-1] for delta in deltas),
            "inserts": inserts,
            "deltas": deltas,
            "ends": ends,
            "attempts": [
                (held[i].name, held[i].fence, change) for i, change in batch.attempts if i in held
            ],
            "deletes": [(held[i].name, held[i].fence) for i in batch.deletes if i in held],
            "refused": [(key_of(entry), entry.stream_id) for entry in batch.refused],
        }
        self._num_bytes, taken, gone = self._connection.script(
            scripts.COMMIT, self._server, _encode(operations), self._max_bytes, *contents
        )
        return {id_of(name.decode()) for name in taken}, {id_of(name.decode()) for name in gone}

    def _deltas(self, deltas: list[tuple[int, Delta]], contents: list[bytes]) -> list[_Operation]:
        by_entry: defaultdict[int, list[bytes]] = defaultdict(list)
        for number, delta in deltas:
            by_entry[number].append(encode_delta(delta))
        operations: list[_Operation] = []
        for number, data in by_entry.items():
            if (hold := self._held.get(number)) is not None:
                place, size = _FIRST + len(contents), sum(map(len, data)) + _DELTA_BYTES * len(data)
                operations.append((*hold, place, len(data), size))
                contents += data
        return operations

    def _let_go(self, numbers: set[int]) -> None:
        for number in numbers:
            self._held.pop(number, None)


def _insert(entry: Entry, body: bytes, contents: list[bytes]) -> _Operation:
    data, place = encode_entry(entry), _FIRST + len(contents)
    contents += (data, body)
    is_unnamed = not entry.is_stream and entry.idempotency_key is None
    orphans = _orphans(entry.owner, entry.digest) if is_unnamed else ""
    size = len(data) + len(body) + _ENTRY_BYTES
    return entry.stream_id, place, str(int(entry.is_stream)), key_of(entry), orphans, size


def _ended(batch: Batch) -> set[int]:
    """Entries that this server does not answer any more. A phase without an expiry begins an
    answer again; that is written by taking the entry."""
    return {number for number, _, expires in batch.phases if expires is not None}


def key_of(entry: Entry) -> str:
    """The key that leads to an entry with an idempotency key; else the empty string."""
    return _key(entry.owner, entry.idempotency_key) if entry.idempotency_key is not None else ""


def _key(owner: str, idempotency_key: str) -> str:
    return f"{scripts.PREFIX}k:{owner}:{idempotency_key}"


def _orphans(owner: str, digest: bytes) -> str:
    return f"{scripts.PREFIX}o:{owner}:{digest.hex()}"
