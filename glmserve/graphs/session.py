"""The interface to a runtime that executes static graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class BoundGraph(Protocol):
    """A graph with the memory that it reads and writes."""

    def run(self) -> None:
        """Read the bound inputs and write the bound outputs; returns when that is done."""
        ...


class Graph(Protocol):
    """A loaded graph."""

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundGraph:
        """Bind arrays, which stay the caller's, to all inputs and outputs by name."""
        ...


class GraphRuntime(Protocol):
    """Loads graphs of one folder onto one device."""

    def load(self, path: Path) -> Graph:
        """Load and compile a graph.

        Raises:
            DeviceError: the runtime cannot execute it on this device.
        """
        ...
