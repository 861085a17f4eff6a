"""Formats numbers for people."""

from __future__ import annotations


def format_size(num_bytes: int) -> str:
    """A size such as "3.4 GiB" or "512 bytes"."""
    for unit, value in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= value:
            return f"{num_bytes / value:.1f} {unit}"
    return f"{num_bytes} bytes"


def format_count(number: int) -> str:
    """A number such as "6.2 billion"."""
    for unit, value in (("billion", 10**9), ("million", 10**6), ("thousand", 10**3)):
        if number >= value:
            return f"{number / value:.1f} {unit}"
    return str(number)


def format_count_chinese(number: int) -> str:
    """A number such as "62.4 亿"."""
    for unit, value in (("亿", 10**8), ("万", 10**4)):
        if number >= value:
            return f"{number / value:.1f} {unit}"
    return str(number)
