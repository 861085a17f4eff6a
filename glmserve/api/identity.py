"""What an answer is called by, and when it was made: all that is in it by chance."""

from __future__ import annotations

import time
import uuid
from hashlib import blake2b


class Identity:
    """Of one answer. Ids come from here alone, so that an answer can be written once more.

    Args:
        seed: makes the same ids every time; None makes new ones.
        created: when the request was accepted, Unix seconds; None is now.
    """

    def __init__(self, seed: str | None = None, created: float | None = None) -> None:
        self.created = int(time.time() if created is None else created)
        """Unix seconds."""
        self.ended: float | None = None
        """When the answer's last text ended, Unix seconds, if that was not just now."""
        self._seed = seed
        self._count = 0

    def new_id(self, prefix: str, length: int = 32) -> str:
        """An id that nobody can guess, with `length` hexadecimal digits behind the prefix."""
        if self._seed is None:
            return prefix + uuid.uuid4().hex[:length]
        self._count += 1
        digest = blake2b(f"{self._seed} {self._count}".encode(), digest_size=16)
        return prefix + digest.hexdigest()[:length]

    def new_call_id(self) -> str:
        """An id by which a result will name its call."""
        return self.new_id("call_", 24)

    @property
    def end_time(self) -> int:
        """When the answer ended, Unix seconds."""
        return int(time.time() if self.ended is None else self.ended)
