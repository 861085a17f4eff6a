"""How much of a text's end could still grow into a string that is being looked for."""

from __future__ import annotations


def partial_match_start(text: str, needle: str) -> int:
    """Where the longest proper prefix of `needle` that ends `text` begins; len(text) if none.

    Looks only at places where needle's first character stands, so a text without it costs one
    search over at most len(needle) - 1 characters.
    """
    first = needle[0]
    start = text.find(first, max(0, len(text) - len(needle) + 1))
    while start >= 0:
        if needle.startswith(text[start:]):
            return start
        start = text.find(first, start + 1)
    return len(text)
