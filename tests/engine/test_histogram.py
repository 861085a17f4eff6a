"""A histogram for groups of equal values reports what prometheus_client's own does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from glmserve.engine.histogram import CountingHistogram

BUCKETS = (0.001, 0.25, 1.0, 60.0)
GROUPS = st.lists(
    st.tuples(st.sampled_from((0.0, 0.001, 0.1, 0.25, 0.5, 7.0, 1000.0)), st.integers(1, 5))
)


def report(registry: CollectorRegistry) -> list[str]:
    """The exposition, without the time of creation."""
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("name_created ")]


@given(GROUPS)
def test_it_reports_what_single_observations_report(groups: list[tuple[float, int]]) -> None:
    single, grouped = CollectorRegistry(), CollectorRegistry()
    theirs = Histogram("name", "Text.", buckets=BUCKETS, registry=single)
    ours = CountingHistogram("name", "Text.", BUCKETS)
    grouped.register(ours)
    for value, count in groups:
        ours.observe(value, count)
        for _ in range(count):
            theirs.observe(value)
    differing = [
        pair for pair in zip(report(single), report(grouped), strict=True) if len({*pair}) > 1
    ]
    for expected, found in differing:  # the sum, by its last bits
        assert expected.startswith("name_sum ")
        assert abs(float(expected.split()[1]) - float(found.split()[1])) < 1e-9
