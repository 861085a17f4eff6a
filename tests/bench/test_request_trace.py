"""The trace of a request: what counts as a call, a move and a return."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from request_trace import PathLength, Recorder, files_in_turn, path_length

REPOSITORY = Path(__file__).parents[2]

MODULE = """
import asyncio

def numbers():
    yield 1
    yield 2

async def wait():
    await asyncio.sleep(0)
    await asyncio.sleep(0)

async def both():
    await wait()
    return (lambda: [n for n in numbers()])()
"""


@pytest.mark.parametrize(
    ("files", "length"),
    [
        ("", PathLength(0, 0, 0, 0)),
        ("a", PathLength(1, 1, 0, 0)),
        ("aaa", PathLength(3, 1, 0, 0)),
        ("aabbc", PathLength(5, 3, 2, 0)),
        ("abab", PathLength(4, 2, 3, 2)),
        ("abcba", PathLength(5, 3, 4, 2)),
    ],
)
def test_the_length_of_a_path(files: str, length: PathLength) -> None:
    assert path_length(list(files)) == length


def test_a_file_in_a_row_is_one_visit() -> None:
    assert files_in_turn(["a", "a", "b", "b", "a"]) == ["a", "b", "a"]


async def test_a_generator_and_a_coroutine_are_called_once(tmp_path: Path) -> None:
    file = tmp_path / "traced.py"
    file.write_text(MODULE)
    names: dict[str, object] = {}
    exec(compile(MODULE, str(file), "exec"), names)
    recorder = Recorder(tmp_path)
    recorder.start()
    try:
        await names["both"]()  # type: ignore[operator]
    finally:
        recorder.stop()
    functions = [call.function.rpartition(".")[2] for call in recorder.calls]
    assert functions == ["both", "wait", "<lambda>", "numbers"]
    assert {call.file for call in recorder.calls} == {"traced.py"}


def test_a_request_is_traced() -> None:
    script = REPOSITORY / "bench" / "request_trace.py"
    result = subprocess.run(
        [sys.executable, script, "--list"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    head, to_submit, to_step, whole, *listing = result.stdout.splitlines()
    assert head.split() == ["stretch", "calls", "files", "moves", "returns"]
    first, second, total = (
        PathLength(*map(int, line.split()[-4:])) for line in (to_submit, to_step, whole)
    )
    assert min(*first, *second) > 0
    assert first.calls + second.calls < total.calls
    assert "      Engine.submit_group" in listing
