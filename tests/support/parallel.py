"""How `pytest` spreads its tests over processes: file by file, files that wait for servers first.

Hooks of tests/conftest.py. Without pytest-xdist, and with `-n 0`, there is one process.
"""

from __future__ import annotations

import os

import pytest

_MOST_PROCESSES = 8
"""Each has torch in its memory, and servers of its own."""
_LONG_FOLDERS = ("e2e", "docs", "kernel_ops", "executor", "cli", "api", "runner", "models")
"""Folders with long files. They come first: at the end a long file would run alone."""


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
    """Order the folders, and nothing within them."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(config.rootpath / "tests").parts[0]
        return _LONG_FOLDERS.index(folder) if folder in _LONG_FOLDERS else len(_LONG_FOLDERS)

    items.sort(key=rank)


def _is_watched(config: pytest.Config) -> bool:
    """Single tests are asked for, a debugger, or output as it comes."""
    options = config.option
    named = all("::" in argument for argument in config.args)
    return named or options.usepdb or options.trace or options.capture == "no"
