"""LLMs that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glmserve import LLM


@pytest.fixture(scope="module")
def tiny() -> Iterator[LLM]:
    """glm-tiny."""
    with LLM(progress=False, dtype="float32") as llm:
        yield llm


@pytest.fixture(scope="module")
def null() -> Iterator[LLM]:
    """The null device, with a queue that is shorter than the lists of the tests."""
    with LLM(device="null", progress=False, max_batch_size=4, queue_size=3) as llm:
        yield llm
