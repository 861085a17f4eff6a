"""A real server in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.server_process import ServerProcess


@pytest.fixture(scope="session")
def glm_tiny() -> Iterator[ServerProcess]:
    """`glmserve serve` on the embedded model, in float32."""
    with ServerProcess("--dtype", "float32") as server:
        yield server
