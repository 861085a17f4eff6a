"""What axe-core finds in a page: the newest one where npm can fetch it, else that of a package for
Python, which is older."""

from __future__ import annotations

import importlib.resources
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.client_programs import npm_install

VERSION = "4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Any, leave_out: tuple[str, ...] = ()) -> list[str]:
    """What axe says of the page as it is now.

    Args:
        leave_out: selectors of what is not looked at.
    """
    page.evaluate(axe_source() + "; undefined")
    result = page.evaluate(
        "([rules, exclude]) => axe.run({exclude}, {runOnly: rules})",
        [RULES, [[selector] for selector in leave_out]],
    )
    return [
        f"{found['id']}: {node['html'][:120]} {node['failureSummary']}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


@cache
def axe_source() -> str:
    """The script that adds `axe` to a page."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            npm_install(Path(folder), f"axe-core@{VERSION}")
            return (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    except pytest.skip.Exception:
        package = "axe_playwright_python"
        pytest.importorskip(package, reason="needs npm or the browser extra")
        return importlib.resources.files(package).joinpath("axe.min.js").read_text()
