"""Writes kustomize/base/glmserve.yaml: the chart with its default values.

    python deploy/kubernetes/render.py

Needs the helm-python-sdk package. A test holds the file equal to what this script makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CHART = FOLDER / "chart"
BASE = FOLDER / "kustomize" / "base" / "glmserve.yaml"
_HEAD = "# Made by deploy/kubernetes/render.py.\n"


def documents(values: Mapping[str, Any], name: str = "glmserve") -> dict[str, str]:
    """The chart's documents by template, without those that the values leave out."""
    import helm_python

    rendered = helm_python.Chart.load(str(CHART)).render(values=dict(values), name=name)
    texts = {path.rpartition("/")[2]: text.strip() for path, text in rendered.items()}
    return {name: text for name, text in texts.items() if text and name != "NOTES.txt"}


def base() -> str:
    """The file's content."""
    return _HEAD + "".join(f"---\n{text}\n" for _, text in sorted(documents({}).items()))


if __name__ == "__main__":
    BASE.write_text(base())
