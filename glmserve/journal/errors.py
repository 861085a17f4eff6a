"""Errors of a journal's store."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be read or written. Nothing of the operation counts as done."""


class EntryBusyError(Exception):
    """Another server answers this request now."""
