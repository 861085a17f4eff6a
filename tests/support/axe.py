"""What axe-core, which comes with a package for Python, finds in a page."""

from __future__ import annotations

import importlib.resources
from typing import Any

import pytest

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Any) -> list[str]:
    """What axe says of the page as it is now."""
    pytest.importorskip("axe_playwright_python", reason="needs the browser extra")
    source = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
    page.evaluate(source + "; undefined")
    result = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    return [
        f"{found['id']}: {node['html'][:120]} {node['failureSummary']}"
        for found in result["violations"]
        for node in found["nodes"]
    ]
