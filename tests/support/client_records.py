"""`pytest -m clients --record-clients` writes what works into the table of clients.

Hooks of tests/conftest.py. A test that has passed reports its tasks as a property `client`.
"""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.cli.compat import ClientRecord, read_clients, write_clients

_PROPERTY = "client"
_USUAL = ("chat", "stream", "tool call", "structured answer")
"""What most clients do; the table has it first, in this order."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-clients",
        action="store_true",
        help="write the versions of clients that pass, and what works, into the package and the "
        "guide",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-clients") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder())


def report_task(node: pytest.Item, task: dict[str, str]) -> None:
    """Say that this test proves that a task works."""
    node.user_properties.append((_PROPERTY, task))


class _Recorder:
    """Collects what the tests report, from all processes of pytest."""

    def __init__(self) -> None:
        self._tasks: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            properties: list[tuple[str, Any]] = report.user_properties
            self._tasks += [value for name, value in properties if name == _PROPERTY]

    def pytest_sessionfinish(self) -> None:
        """Replace the records of the clients that ran; keep those of the others."""
        ran = {task["client"] for task in self._tasks}
        clients = [client for client in read_clients() if client.client not in ran]
        found: dict[tuple[str, str, str], list[str]] = {}
        for task in self._tasks:
            works = found.setdefault((task["client"], task["version"], task["api"]), [])
            if task["works"] not in works:
                works.append(task["works"])
        clients += [ClientRecord(*key, works=_ordered(works)) for key, works in found.items()]
        write_clients(clients)


def _ordered(works: list[str]) -> tuple[str, ...]:
    usual = [name for name in _USUAL if name in works]
    return (*usual, *(name for name in works if name not in usual))
