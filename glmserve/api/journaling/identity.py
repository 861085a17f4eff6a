"""The ids and times in an answer: everything in it that does not follow from its tokens."""

from __future__ import annotations

import time
import uuid
from hashlib import blake2b


class Identity:
    """The ids and times of one answer. Given the same seed, it makes the same ids again.

    Args:
        seed: makes the same ids every time; None makes new ones.
        created: when the request was accepted, Unix seconds; None is now.
    """

    def __init__(self, seed: str | None = None, created: float | None = None) -> None:
        self.created = int(time.time() if created is None else created)
        """When the request was accepted, Unix seconds."""
        self.ended: float | None = None
        """When the answer's last choice ended, Unix seconds; None: not recorded."""
        self._seed = seed
        self._count = 0

    def new_id(self, prefix: str, length: int = 32) -> str:
        """An id that cannot be guessed: `length` hexadecimal digits behind the prefix."""
        if self._seed is None:
            return prefix + uuid.uuid4().hex[:length]
        self._count += 1
        digest = blake2b(f"{self._seed} {self._count}".encode(), digest_size=16)
        return prefix + digest.hexdigest()[:length]

    def new_call_id(self) -> str:
        """The id of a tool call, which its result will repeat."""
        return self.new_id("call_", 24)

    @property
    def end_time(self) -> int:
        """When the answer ended, Unix seconds; now if that is not recorded."""
        return int(time.time() if self.ended is None else self.ended)
