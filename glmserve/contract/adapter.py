"""Adapters of a model: what changes it for some sequences of a step. Plain data, no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

NO_ADAPTER = 0
"""Adapter id of sequences that the plain model computes."""


class AdapterSource(msgspec.Struct, frozen=True, array_like=True):
    """An adapter that a runner is to load."""

    id: int
    """1 or more. One server gives an id to one content only, so K/V and steps of an id never mean
    two different adapters."""
    folder: str
    """Folder with the adapter's config and weights."""
    digest: str
    """Hash of the content, see `glmserve.adapters`. A folder with another content is refused."""


class AdapterRunner(Protocol):
    """The part of a Runner that holds adapters: at most `RunnerLimits.max_adapters` at a time."""

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        """Read and check an adapter's files. Called on any thread, beside `execute`.

        Returns:
            A function that makes the adapter usable. It is short, and is called between two steps.

        Raises:
            AdapterError: the adapter cannot be read, or does not fit the model.
        """
        ...

    def remove_adapter(self, adapter_id: int) -> None:
        """Free an adapter. Called between two steps; no later step uses its id."""
        ...
