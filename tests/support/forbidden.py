"""A folder that the user may not look into. Permissions do not stop tests that run as root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let looking into a folder fail, as the system would."""

    def checked(method: Callable[..., Any], *, itself: bool) -> Callable[..., Any]:
        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            if folder in path.parents or (itself and path == folder):
                raise PermissionError(13, "Permission denied", str(path))
            return method(path, *arguments, **options)

        return call

    monkeypatch.setattr(Path, "stat", checked(Path.stat, itself=False))
    monkeypatch.setattr(Path, "open", checked(Path.open, itself=False))
    monkeypatch.setattr(Path, "iterdir", checked(Path.iterdir, itself=True))
