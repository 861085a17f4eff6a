"""Batches of a real server: they outlive its death, and say what the routes say."""

from __future__ import annotations

from pathlib import Path

from support.batch_service import chat_lines, kill_through


def test_30_lines_and_the_deaths_of_the_worker_and_of_the_server(tmp_path: Path) -> None:
    """In `tests/soak` there are a thousand, of a model that computes."""
    lines = chat_lines(30, 400)
    options = ("--device", "null", "--max-batch-size", "4")
    disturbed, undisturbed = kill_through(
        tmp_path, lines, ["worker", "server"], iter([0.1, 0.4]), *options
    )
    assert disturbed.keys() == {f"request-{number}" for number in range(30)}
    assert disturbed == undisturbed
