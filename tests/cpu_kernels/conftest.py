"""The compiled CPU kernels, once for each instruction set that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glmserve_cpu_kernels.build import INSTRUCTION_SETS
from glmserve_cpu_kernels.library import Library, UnavailableError, load


@pytest.fixture(params=INSTRUCTION_SETS)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    try:
        library = load()
        library.use(request.param)
    except UnavailableError as error:
        pytest.skip(str(error))
    library.set_threads(2)
    yield library
    library.use(None)
