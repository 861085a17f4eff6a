"""A device of another package, installed as pip would leave it."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest


def install_device(
    name: str, entry: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let processes started from now on find it.

    Args:
        entry: the class in `source` that is the device.
    """
    module = f"{name.replace('-', '_')}_device"
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-device\n")
    entry_points = f"[glmserve.devices]\n{name} = {module}:{entry}\n"
    (information / "entry_points.txt").write_text(entry_points)
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
