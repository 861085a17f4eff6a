"""What a rank reserves of a Ray cluster."""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.config import RunnerConfig
from glmserve.machines.ray.launcher import resources_of_rank
from glmserve.machines.ray.order import Order


@pytest.mark.parametrize(
    ("options", "cluster", "expected"),
    [
        ({"device": "cuda"}, {}, {"GPU": 1}),
        ({"device": "rocm"}, {"CPU": 8.0}, {"GPU": 1}),
        ({"device": "ascend"}, {"GPU": 8.0}, {"NPU": 1}),
        ({"device": "cpu"}, {"GPU": 8.0}, {"CPU": 1}),
        ({"device": "cpu", "threads": 6}, {}, {"CPU": 6}),
        ({}, {"GPU": 2.0, "NPU": 2.0}, {"GPU": 1}),
        ({}, {"GPU": 1.0, "NPU": 2.0}, {"NPU": 1}),
        ({"threads": 3}, {"GPU": 1.0}, {"CPU": 3}),
    ],
)
def test_resources(
    options: dict[str, Any], cluster: dict[str, float], expected: dict[str, float]
) -> None:
    config = RunnerConfig(checkpoint="", **options)
    order = Order(count=2, port=1, key="", config=config)
    assert resources_of_rank(order, cluster) == expected
