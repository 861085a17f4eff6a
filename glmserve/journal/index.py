"""The entries of a journal, by what clients may ask for them with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from glmserve.journal.entry import Entry


class Index:
    """In memory: a request is looked up before anything is known of it but its headers."""

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
        """Let it be found by its stream's id, and by its key if it has one."""
        self._entries[entry.id] = entry
        self._by_stream[entry.stream_id] = entry
        if entry.idempotency_key is not None:
            self._by_key[entry.owner, entry.idempotency_key] = entry

    def add_orphan(self, entry: Entry) -> None:
        """Let it be found by its request: nobody waits for it, and its client knows no name."""
        self._orphans[entry.owner, entry.digest][entry.id] = entry

    def remove(self, entry: Entry) -> None:
        """Forget it."""
        self._entries.pop(entry.id, None)
        self._by_stream.pop(entry.stream_id, None)
        if entry.idempotency_key is not None:
            self._by_key.pop((entry.owner, entry.idempotency_key), None)
        self.claim_orphan(entry)

    def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        """For others than its owner it does not exist."""
        entry = self._by_stream.get(stream_id)
        return entry if entry is not None and entry.owner == owner else None

    def find_key(self, owner: str, idempotency_key: str) -> Entry | None:
        return self._by_key.get((owner, idempotency_key))

    def find_orphan(self, owner: str, digest: bytes) -> Entry | None:
        """The oldest answer to this very request that nobody waits for."""
        orphans = self._orphans.get((owner, digest), {})
        return next(iter(orphans.values()), None)

    def claim_orphan(self, entry: Entry) -> None:
        """Somebody waits for it: nobody else gets it."""
        orphans = self._orphans.get((entry.owner, entry.digest))
        if orphans is not None:
            orphans.pop(entry.id, None)
            if not orphans:
                del self._orphans[entry.owner, entry.digest]
