"""What the fields of every kind of adapter have in common."""

from __future__ import annotations

from typing import Any


def asks_for_nothing(value: Any) -> bool:
    """Whether a field is as good as missing. 0 is not: it may be a number that counts."""
    return value is None or value is False or value in ({}, [], "")
