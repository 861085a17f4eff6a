"""What a command says that fails, and its exit code."""

from __future__ import annotations

import errno
import re

import pytest

from glmserve.errors import CheckpointError, OptionError
from glmserve.process.failure import exit_with


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OptionError("--x: wrong"), 2, "--x: wrong"),
        (CheckpointError("a\nb"), 1, "a b"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "/x: No space left on device;"),
        (OSError(errno.EMFILE, "Too many open files"), 1, r"Too many open files; .*\(ulimit -n\)"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied; its"),
        (OSError("words alone"), 1, "words alone"),
        (MemoryError(), 1, "not enough memory; free some"),
        (RuntimeError("can't start new thread"), 1, "can't start new thread; .*ulimit -u"),
        (
            KeyError("x"),
            1,
            r"a bug of glmserve: KeyError: 'x' \(test_failure.py, line \d+\); .*rep",
        ),
        (RecursionError("deep"), 1, "a bug of glmserve: RecursionError: deep"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("debug", [False, True])
def test_one_line(
    error: BaseException, code: int, said: str, debug: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: fail(error), debug=debug)
    assert end.value.code == code
    *traceback, line = capfd.readouterr().err.splitlines()
    assert any("Traceback" in t for t in traceback) == debug
    assert debug or not traceback
    assert line.startswith("glmserve: error: ")
    assert re.search(said, line)


def test_ctrl_c_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: fail(KeyboardInterrupt()))
    assert end.value.code == 130
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_what_a_command_returns(returned: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: returned)
    assert end.value.code == code


@pytest.mark.parametrize("code", [0, 2])
def test_argparse_ends_by_itself(code: int) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: fail(SystemExit(code)))
    assert end.value.code == code
