"""Finds the end of a text that may be the beginning of a searched string."""

from __future__ import annotations


def partial_match_start(text: str, needle: str) -> int:
    """Index in `text` where the longest proper prefix of `needle` begins that ends `text`.

    It is len(text) if there is none. Only occurrences of needle's first character are compared, so
    a text without it costs one search over at most len(needle) - 1 characters.
    """
    first = needle[0]
    start = text.find(first, max(0, len(text) - len(needle) + 1))
    while start >= 0:
        if needle.startswith(text[start:]):
            return start
        start = text.find(first, start + 1)
    return len(text)
