"""The pytest plugin of the device contract, for runs of pytest within tests."""

from __future__ import annotations

from importlib.metadata import entry_points

_PLUGIN = "glmserve.conformance.plugin"
_IS_INSTALLED = any(entry.value == _PLUGIN for entry in entry_points(group="pytest11"))

WITH_PLUGIN = () if _IS_INSTALLED else ("-p", _PLUGIN)
"""Arguments that load it, where the installation of glmserve does not."""
