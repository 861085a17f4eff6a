"""How `pytest` spreads its tests over processes: file by file, files that wait for servers between
files that compute.

Hooks of tests/conftest.py. Without pytest-xdist, and with `-n 0`, there is one process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

_MOST_PROCESSES = 8
"""Each has torch in its memory, and servers of its own."""
_WAITING = ("e2e", "cli", "executor")
"""Folders with tests that wait for other processes."""
_COMPUTING = ("models", "runner", "kernel_ops", "text", "api", "ops", "docs")
"""Folders with long files that compute. They come before the others: at the end a long file would
run alone."""


@pytest.hookimpl(tryfirst=True)  # before that of xdist, which reads these options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """One process more than there are CPUs, unless `-n` is given or a person watches.

    Many tests wait for servers, so as many processes as CPUs would leave CPUs idle.
    """
    if not config.pluginmanager.hasplugin("xdist") or "PYTEST_XDIST_WORKER" in os.environ:
        return
    options = config.option
    if options.numprocesses is None and not _is_watched(config):
        options.numprocesses = min(len(os.sched_getaffinity(0)) + 1, _MOST_PROCESSES)
    if options.numprocesses and options.dist == "no":
        options.dist = "loadfile"
        options.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Alternate between files that wait and files that compute, so that CPUs are always busy."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    tests = config.rootpath / "tests"
    own = [path for path in files if path.is_relative_to(tests)]
    folders = {path: path.relative_to(tests).parts[0] for path in own}
    waiting = [path for path in own if folders[path] in _WAITING]
    others = sorted(
        (path for path in own if folders[path] not in _WAITING),
        key=lambda path: _rank(folders[path], _COMPUTING),
    )
    others += [path for path in files if path not in folders]  # of an installed plugin
    pairs = itertools.zip_longest(
        sorted(waiting, key=lambda p: _rank(folders[p], _WAITING)), others
    )
    items[:] = [item for pair in pairs for path in pair if path for item in files[path]]


def _rank(folder: str, order: Sequence[str]) -> int:
    return order.index(folder) if folder in order else len(order)


def _is_watched(config: pytest.Config) -> bool:
    """Single tests are asked for, a debugger, or output as it comes."""
    options = config.option
    named = all("::" in argument for argument in config.args)
    return named or options.usepdb or options.trace or options.capture == "no"
