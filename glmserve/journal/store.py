"""What a journal needs of the place where it is kept, and of the entries that are there."""

from __future__ import annotations

import enum
from typing import Protocol

from glmserve.journal.batch import Batch, Written
from glmserve.journal.entry import Entry, Record
from glmserve.journal.group_commit import GroupCommit
from glmserve.journal.index import Index


class Store(Protocol):
    """Keeps entries and records. Used on one thread at a time."""

    secret: bytes
    """Random bytes that stay the same for the life of the journal."""
    place: str
    """Where it is, for the user."""

    @property
    def num_bytes(self) -> int:
        """Size of what is kept, bytes. Callable from any thread."""

    def write(self, batch: Batch) -> Written:
        """Commit a batch atomically. If the store is full, finished entries make room.

        Raises:
            StoreError: nothing of the batch counts as written.
        """

    def load_body(self, entry_id: int) -> bytes | None:
        """The body of an entry's request, or None if there is no such entry.

        Raises:
            StoreError: the store cannot be read.
        """

    def entries(self, commits: GroupCommit, keep: float) -> Entries:
        """The entries, as one server uses them. Called once.

        Args:
            commits: writes and reads this store on its thread.
            keep: seconds for which an answer can be fetched again.

        Raises:
            StartupError: the store cannot be read or written.
        """

    def close(self) -> None:
        """Release the store for other servers."""


class Claim(enum.Enum):
    """Why an answer is taken. A store that several servers share checks it."""

    STREAM = "stream"
    """Its client came back: whatever goes on with it now, ends."""
    KEY = "key"
    """A request with its idempotency key came: whatever computes it now, finishes first."""
    ORPHAN = "orphan"
    """An equal request without a key came, and no client waits for this answer."""
    OWN = "own"
    """This server finishes it for a client that may come back."""


class Entries(Protocol):
    """Finds entries and takes them, for one server."""

    index: Index
    """The entries in memory: all of a store of its own, those that are being answered of a shared
    one."""

    def new_id(self, stream_id: str) -> int:
        """The id of a new entry."""

    async def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        """The owner's entry with this stream id, or None.

        Raises:
            StoreError: the store cannot be read.
        """

    async def find_key(self, owner: str, idempotency_key: str) -> Entry | None:
        """The owner's entry with this idempotency key, or None.

        Raises:
            EntryBusyError: another server has just accepted that request.
        """

    async def find_orphan(self, owner: str, digest: bytes) -> Entry | None:
        """The owner's oldest orphan with this digest, or None."""

    async def reserve(self, entry: Entry) -> bool:
        """Index a new entry. False if another server was quicker with its idempotency key."""

    def refused(self, entry: Entry) -> None:
        """Forget a reserved entry: its request was not accepted."""

    def ended(self, entry: Entry) -> None:
        """Note that this server does not answer the entry any more."""

    async def take(self, entry: Entry, claim: Claim) -> Record | None:
        """Take an entry to go on with its answer.

        Returns:
            Its record; None if the journal no longer has it.

        Raises:
            EntryBusyError: another server answers it, or has taken it.
            StoreError: a shared store cannot be read.
        """

    async def next_unfinished(self) -> list[Entry]:
        """Whole answers that another server left and that this one is to finish. Waits for some.

        An empty list: there will be no more.
        """

    async def tend_forever(self) -> None:
        """Delete entries when they expire. Runs until it is cancelled."""

    def __str__(self) -> str:
        """What is there, for the user."""
