"""A real server in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.server_process import ServerProcess


@pytest.fixture(scope="session")
def glm_tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`glmserve serve` on the embedded model, in float32, with a folder for batches."""
    folder = tmp_path_factory.mktemp("batches")
    with ServerProcess("--dtype", "float32", "--batch-dir", str(folder)) as server:
        yield server
