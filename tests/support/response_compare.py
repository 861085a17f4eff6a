"""Comparing whole answers of the API."""

from __future__ import annotations

from typing import Any

import pytest


def essence(value: Any) -> Any:
    """An answer without what is new in every answer."""
    if isinstance(value, dict):
        changing = ("id", "created", "cached_tokens")
        return {key: essence(item) for key, item in value.items() if key not in changing}
    return [essence(item) for item in value] if isinstance(value, list) else value


def nearly(value: Any) -> Any:
    """Equal to what has the same log-probabilities up to rounding, and else the same of all."""
    if isinstance(value, dict):
        return {key: nearly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nearly(item) for item in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value
