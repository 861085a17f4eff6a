"""One real server for all clients, which are not installed by default."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """`glmserve serve` on the embedded model, in float32."""
    with ServerProcess("--dtype", "float32") as process:
        yield process
