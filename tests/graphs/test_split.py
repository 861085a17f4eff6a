"""How layers are cut into parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.errors import OptionError
from glmserve.graphs.split import PartCosts, split_layers

COSTS = PartCosts(num_layers=10, layer=8, layer_cache=2, first=20, last=30)


def sizes(parts: list[range]) -> list[int]:
    return [len(part) for part in parts]


def test_equal_gives_each_the_same_number() -> None:
    assert sizes(split_layers(COSTS, 2, "equal", None)) == [5, 5]
    assert sizes(split_layers(COSTS, 3, "equal", None)) == [4, 3, 3]


def test_greedy_fills_one_after_the_other() -> None:
    assert sizes(split_layers(COSTS, 2, "greedy", 90)) == [7, 3]
    assert sizes(split_layers(COSTS, 3, "greedy", 65)) == [4, 5, 1]


def test_greedy_leaves_a_layer_for_each() -> None:
    assert sizes(split_layers(COSTS, 3, "greedy", 1000)) == [8, 1, 1]


def test_loose_makes_the_largest_part_small() -> None:
    assert sizes(split_layers(COSTS, 3, "loose", None)) == [3, 5, 2]


@pytest.mark.parametrize(
    ("count", "strategy", "memory", "message"),
    [
        (11, "equal", None, "the model has 10 layers"),
        (2, "greedy", None, "give it"),
        (2, "loose", 60, "part 1 of 2 needs 70 B"),
        (2, "greedy", 60, "part 2 of 2 needs 90 B"),
    ],
)
def test_what_does_not_fit(count: int, strategy: str, memory: int | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        split_layers(COSTS, count, strategy, memory)  # type: ignore[arg-type]


@given(
    layers=st.integers(1, 12),
    first=st.integers(0, 50),
    last=st.integers(0, 50),
    data=st.data(),
    strategy=st.sampled_from(["greedy", "equal", "loose"]),
)
def test_every_layer_is_in_one_part(
    layers: int, first: int, last: int, data: st.DataObject, strategy: str
) -> None:
    costs = PartCosts(layers, 8, 2, first, last)
    count = data.draw(st.integers(1, layers))
    parts = split_layers(costs, count, strategy, 10_000)  # type: ignore[arg-type]
    assert len(parts) == count
    assert all(parts)
    assert [layer for part in parts for layer in part] == list(range(layers))
    if strategy == "loose":
        others = split_layers(costs, count, "equal", None)
        assert max(map(costs.part, parts)) <= max(map(costs.part, others))
