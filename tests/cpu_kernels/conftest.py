"""The compiled CPU kernels, once for each instruction set that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from glmserve_cpu_kernels.build import INSTRUCTION_SETS
from glmserve_cpu_kernels.library import Library, UnavailableError
from support.native import native_library


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def any_library() -> Iterator[Library]:
    """With the best instruction set, for what does not depend on it."""
    library = native_library()
    library.set_threads(2)
    yield library
    library.set_threads(1)


@pytest.fixture(params=INSTRUCTION_SETS)
def library(request: pytest.FixtureRequest, any_library: Library) -> Iterator[Library]:
    try:
        any_library.use(request.param)
    except UnavailableError as error:
        pytest.skip(str(error))
    yield any_library
    any_library.use(None)
