"""Cuts the bytes of a connection at the ends of heads and bodies, and disguises upgrade offers."""

from __future__ import annotations

import itertools
import re

_END = b"\r\n\r\n"
"""Of a head, and of a body in chunks."""
_UPGRADE = re.compile(rb"\nupgrade(?=:)", re.IGNORECASE)
IGNORED_UPGRADE = b"upgrade-ignored"
"""The header that the parser gets in the place of `Upgrade`."""
_MEMORY = len(b"\nupgrade")
"""Bytes of earlier reads that may belong to a match of `_UPGRADE` or of `_END`."""


class RequestBytes:
    """The bytes of one connection, however they are split over reads.

    The HTTP parser takes the bytes after a head with an `Upgrade` header for another protocol, but
    they are the request's body: Java's client offers h2c with every POST. Therefore the parser gets
    `Upgrade-Ignored` in place of `Upgrade`. Only heads may be changed, so the parser gets no part
    that goes on after the end of a head or of a body.
    """

    def __init__(self) -> None:
        self._seen = b""
        """The last bytes of the head, or of the body in chunks, that earlier reads brought."""
        self.found_upgrade = False
        """Whether an offer was disguised since the owner reset this. A client can write the other
        name itself."""

    def head_part(self, data: bytes) -> tuple[bytes, bytes]:
        """Split received bytes of a head.

        Returns:
            The bytes up to the head's end for the parser, and those after the end.
        """
        if not self.found_upgrade and self._is_harmless(data):
            return data, b""
        known, offset, stop = self._up_to_end(data)
        # The colon must be new: a name before an earlier colon is with the parser already.
        names = [m.end() for m in _UPGRADE.finditer(known, 0, stop) if m.end() >= offset]
        self.found_upgrade = self.found_upgrade or bool(names)
        cuts = [offset, *names, stop]
        parts = [known[a:b] for a, b in itertools.pairwise(cuts)]
        return b"-Ignored".join(parts), known[stop:]

    def body_part(self, data: bytes, num_left: int | None) -> tuple[bytes, bytes]:
        """Split received bytes of a body.

        Args:
            num_left: bytes that are missing from the body, at least 1; None: the body is in chunks.

        Returns:
            Bytes for the parser that end with the body or before, and the bytes after them.
        """
        if num_left is not None:
            return data[:num_left], data[num_left:]
        if self._is_harmless(data):
            return data, b""
        known, offset, stop = self._up_to_end(data)
        return known[offset:stop], known[stop:]

    def _is_harmless(self, data: bytes) -> bool:
        """Whether there is nothing to disguise, so that the parser may get all of it at once.

        A cut copies what comes after it; hostile clients send many ends in one read.
        """
        known = self._seen + data
        if _UPGRADE.search(known):
            return False
        self._seen = known[-_MEMORY:]
        return True

    def _up_to_end(self, data: bytes) -> tuple[bytes, int, int]:
        """The remembered bytes and `data`; where `data` begins in them, and where the first end is.

        The end may have begun in earlier reads, but it is not complete there.
        """
        known, offset = self._seen + data, len(self._seen)
        end = known.find(_END, max(0, offset - len(_END) + 1))
        stop = len(known) if end < 0 else end + len(_END)
        self._seen = known[max(0, stop - _MEMORY) : stop] if end < 0 else b""
        return known, offset, stop
