"""The regexes of dates and times against Python's own idea of them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.structure.schema.dates import PATTERNS

ZONES = st.timedeltas(timedelta(minutes=-1439), timedelta(minutes=1439)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


@pytest.mark.parametrize("year", [0, 1, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 9996, 9999])
def test_exactly_the_days_of_a_year(year: int) -> None:
    for month in range(14):
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}"
            assert bool(re.search(PATTERNS["date"], text)) == _is_date(text), text


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@given(st.datetimes(timezones=ZONES | st.just(UTC)))
def test_every_moment_can_be_written(moment: datetime) -> None:
    assert re.search(PATTERNS["date-time"], moment.isoformat().replace("+00:00", "Z"))
    assert re.search(PATTERNS["time"], moment.timetz().isoformat())


@given(st.from_regex(PATTERNS["time"].replace("$", r"\Z")))
def test_every_time_can_be_read(text: str) -> None:
    time.fromisoformat(text)


@given(st.from_regex(PATTERNS["date-time"].replace("$", r"\Z")))
def test_every_moment_can_be_read(text: str) -> None:
    assert datetime.fromisoformat(text).tzinfo is not None
