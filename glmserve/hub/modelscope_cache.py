"""Finds models in ModelScope's caches: OWNER/NAME, with ___ for dots in versions up to 1.37, and
OWNER--NAME/snapshots/REVISION in later ones.

The layouts are those of modelscope 1.40 and modelscope_hub 0.5.1 (`_download.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from glmserve.hub.files import subfolders
from glmserve.hub.name import HubName

MAIN = "master"
"""The main branch of repositories on ModelScope."""
_MAINS = (MAIN, "main")
_SNAPSHOTS = "*--*/snapshots/*/config.json"

VERSION_FILE = ".mv"
"""Says which revision a folder has: `Revision:master,CreatedAt:...`. The files beside it, .msc and
.mdl, are pickles, and are not read."""


def folders_of(roots: Sequence[Path], name: HubName) -> Iterator[Path]:
    """The folders of a model, in the order of the roots.

    Args:
        roots: folders that may have folders of owners, or of models.
        name: without a revision, any revision of OWNER/NAME is taken: such a folder has one at a
            time. Of those in OWNER--NAME the main branch is taken, or else the only one.
    """
    for root in roots:
        owned = {path.name: path for path in subfolders(root / name.owner)}
        for model in dict.fromkeys((stored_name(name.model), name.model)):
            if model in owned and name.revision in (None, revision_of(owned[model])):
                yield owned[model]
        yield from _snapshots(root / f"{name.owner}--{name.model}" / "snapshots", name.revision)


def repositories(roots: Sequence[Path]) -> Iterator[tuple[HubName, Path]]:
    """Every model in the caches, with its folder. Those of other branches have their revision."""
    seen: set[Path] = set()
    for root in roots:
        for config in sorted((*root.glob("*/*/config.json"), *root.glob(_SNAPSHOTS))):
            folder = config.parent
            name = _name_of(folder)
            if name is not None and folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield name, folder


def stored_name(model: str) -> str:
    """The name of a model's folder."""
    return model.replace(".", "___")


def version_text(revision: str) -> str:
    """What the file about the revision says."""
    return f"Revision:{revision},CreatedAt:0"


def revision_of(folder: Path) -> str | None:
    """The revision that OWNER/NAME has; None: it does not say."""
    try:
        text = (folder / VERSION_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(r"Revision:([^,]+)", text)
    return match[1] if match else text.strip() or None


def _snapshots(folder: Path, revision: str | None) -> list[Path]:
    """The folder of a revision. Without one: of the main branch, or else the only one."""
    if revision is not None:  # it may have slashes
        wanted = folder / revision
        return [path for path in subfolders(wanted.parent) if path == wanted]
    every = subfolders(folder)
    mains = [path for path in every if path.name in _MAINS]
    return mains or (every if len(every) == 1 else [])


def _name_of(folder: Path) -> HubName | None:
    """The name of the model in a folder; None: the folder is of the tools themselves."""
    if folder.parent.name == "snapshots":
        owner, _, model = folder.parent.parent.name.partition("--")
        return HubName(owner, model, None if folder.name in _MAINS else folder.name, "ms")
    owner = folder.parent.name
    if owner.startswith("."):
        return None
    return HubName(owner, folder.resolve().name.replace("___", "."), hub="ms")
