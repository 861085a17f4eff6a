"""Marks heavy variants of a check that the gate runs, and a plain `pytest` does not."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.mark import ParameterSet


def slow(*values: Any) -> ParameterSet:
    """Values of a parametrized test that only `pytest -m slow` runs."""
    return pytest.param(*values, marks=pytest.mark.slow)
