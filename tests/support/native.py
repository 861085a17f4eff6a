"""The compiled CPU kernels, for tests that need them."""

from __future__ import annotations

import pytest

from glmserve_cpu_kernels.library import Library, UnavailableError, load


def native_library() -> Library:
    """The kernels; a test is skipped where there are none, with the library's reason."""
    try:
        return load()
    except UnavailableError as error:
        pytest.skip(str(error))
