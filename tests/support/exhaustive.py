"""Marks further variants of a check of which another variant runs by default."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.mark import ParameterSet


def exhaustive(*values: Any) -> ParameterSet:
    """Values of a parametrized test that only `pytest -m exhaustive` runs."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)
