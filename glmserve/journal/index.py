"""Finds journal entries by stream id, idempotency key, or request digest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from glmserve.journal.entry import Entry


class Index:
    """An index in memory, because a request is looked up as soon as its headers are known.

    An orphan is an entry without an idempotency key and without a waiting client. It is found by
    the digest of its request.
    """

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._by_stream: dict[str, Entry] = {}
        self._by_key: dict[tuple[str, str], Entry] = {}
        self._orphans: defaultdict[tuple[str, bytes], dict[int, Entry]] = defaultdict(dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, entry: Entry) -> bool:
        return entry.id in self._entries

    def add(self, entry: Entry) -> None:
        """Add an entry, to be found by its stream id, and by its idempotency key if it has one."""
        self._entries[entry.id] = entry
        self._by_stream[entry.stream_id] = entry
        if entry.idempotency_key is not None:
            self._by_key[entry.owner, entry.idempotency_key] = entry

    def add_orphan(self, entry: Entry) -> None:
        """Let an entry be found by its digest: it has no idempotency key and no waiting client."""
        self._orphans[entry.owner, entry.digest][entry.id] = entry

    def remove(self, entry: Entry) -> None:
        """Remove an entry. It need not be in the index."""
        self._entries.pop(entry.id, None)
        self._by_stream.pop(entry.stream_id, None)
        if entry.idempotency_key is not None:
            self._by_key.pop((entry.owner, entry.idempotency_key), None)
        self.claim_orphan(entry)

    def discard(self, number: int) -> None:
        """Remove the entry with this id, if there is one."""
        if (entry := self._entries.get(number)) is not None:
            self.remove(entry)

    def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        """The owner's entry with this stream id, or None."""
        entry = self._by_stream.get(stream_id)
        return entry if entry is not None and entry.owner == owner else None

    def find_key(self, owner: str, idempotency_key: str) -> Entry | None:
        """The owner's entry with this idempotency key, or None."""
        return self._by_key.get((owner, idempotency_key))

    def find_orphan(self, owner: str, digest: bytes) -> Entry | None:
        """The owner's oldest orphan with this digest, or None."""
        orphans = self._orphans.get((owner, digest), {})
        return next(iter(orphans.values()), None)

    def claim_orphan(self, entry: Entry) -> None:
        """A client waits for this entry now, so it is no longer found by its digest."""
        orphans = self._orphans.get((entry.owner, entry.digest))
        if orphans is not None:
            orphans.pop(entry.id, None)
            if not orphans:
                del self._orphans[entry.owner, entry.digest]
