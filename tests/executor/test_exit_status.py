"""What became of a process, in words."""

from __future__ import annotations

import pytest

from glmserve.executor.exit_status import describe_exit


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-9, "was killed by SIGKILL (out of memory?)"),
        (-11, "was killed by SIGSEGV (a bug in compiled code?)"),
        (-6, "was killed by SIGABRT (compiled code called abort(); out of memory?)"),
        (-250, "was killed by signal 250"),
    ],
)
def test_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
