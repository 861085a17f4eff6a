"""References within a schema."""

from __future__ import annotations

from urllib.parse import unquote


def pointer(ref: str) -> str:
    """The JSON pointer in a local $ref: "#/$defs/a%20b" is "/$defs/a b"."""
    return unquote(ref[1:])
