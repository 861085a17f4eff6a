"""A thousand lines and twenty deaths: `pytest -m soak`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.batch_service import Victim, chat_lines, kill_through, random_moments

LINES, KILLS = 1000, 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_1000_lines_and_20_deaths_of_worker_and_server(tmp_path: Path) -> None:
    chooser = random.Random(21)
    victims: list[Victim] = ["worker", "server"] * (KILLS // 2)
    chooser.shuffle(victims)
    options = ("--dtype", "float32", "--max-worker-restarts", str(KILLS))
    disturbed, undisturbed = kill_through(
        tmp_path, chat_lines(LINES, 24), victims, random_moments(chooser), *options
    )
    assert disturbed.keys() == {f"request-{number}" for number in range(LINES)}
    assert disturbed == undisturbed
