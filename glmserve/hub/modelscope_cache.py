"""Finds models in ModelScope's caches: OWNER/NAME, with ___ for dots in newer versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from glmserve.hub.name import HubName

MAIN = "master"
"""The main branch of repositories on ModelScope."""

VERSION_FILE = ".mv"
"""Says which revision a folder has: `Revision:master,CreatedAt:...`. The files beside it, .msc and
.mdl, are pickles, and are not read."""


def folder_of(roots: Sequence[Path], name: HubName) -> Path | None:
    """The folder of a model; None: no cache has this revision.

    Args:
        roots: folders that may have folders of owners.
        name: without a revision, any revision is taken: a folder has one at a time.
    """
    for root in roots:
        for model in dict.fromkeys((stored_name(name.model), name.model)):
            folder = root / name.owner / model
            if folder.is_dir() and name.revision in (None, _revision(folder)):
                return folder
    return None


def repositories(roots: Sequence[Path]) -> Iterator[tuple[HubName, Path]]:
    """Every model in the caches, with its folder."""
    seen: set[Path] = set()
    for root in roots:
        for config in sorted(root.glob("*/*/config.json")) if root.is_dir() else ():
            folder = config.parent.resolve()
            if folder not in seen and not config.parent.parent.name.startswith("."):
                seen.add(folder)
                owner = config.parent.parent.name
                yield HubName(owner, folder.name.replace("___", ".")), config.parent


def stored_name(model: str) -> str:
    """The name of a model's folder."""
    return model.replace(".", "___")


def version_text(revision: str) -> str:
    """What the file about the revision says."""
    return f"Revision:{revision},CreatedAt:0"


def _revision(folder: Path) -> str | None:
    try:
        text = (folder / VERSION_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(r"Revision:([^,]+)", text)
    return match[1] if match else text.strip() or None
