"""Memory for the bodies of requests, shared by all of them."""

from __future__ import annotations

from types import TracebackType

from glmserve.errors import NotReadyError


class BodyMemory:
    """What bodies may take while they are received and checked, all together.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.free = limit
        """Bytes."""

    def share(self) -> Share:
        """One request's part of it; to be used in a `with` statement."""
        return Share(self)


class Share:
    """What one request has taken; it gives everything back when it is left."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._taken = 0

    def take(self, num_bytes: int) -> None:
        """Account for bytes that have come.

        Raises:
            NotReadyError: there is no room for them.
        """
        if num_bytes > self._memory.free:
            raise NotReadyError(
                "other requests' bodies fill the memory that is kept for them; try again in a "
                "moment"
            )
        self._memory.free -= num_bytes
        self._taken += num_bytes

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._memory.free += self._taken
        self._taken = 0
