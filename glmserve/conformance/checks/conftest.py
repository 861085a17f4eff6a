"""The fixtures of the checks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glmserve.conformance.kit import Kit
from glmserve.contract.step import Runner


@pytest.fixture(scope="session")
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """The device under test."""
    options = request.config.option
    if options.glmserve_device is None:
        pytest.skip("no device is named: --glmserve-device NAME")
    made = Kit(
        options.glmserve_device,
        tmp_path_factory.mktemp("checkpoints"),
        dtype=options.glmserve_dtype,
        tolerance=options.glmserve_tolerance,
        prepare=options.glmserve_prepare,
    )
    yield made
    made.close()


@pytest.fixture
def runner(kit: Kit) -> Runner:
    """The runner of the base checkpoint."""
    return kit.runner()
