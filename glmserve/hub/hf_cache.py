"""Finds snapshots in Hugging Face's cache: models--OWNER--NAME/snapshots/COMMIT, refs/REVISION."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from glmserve.hub.files import subfolders
from glmserve.hub.name import HubName
from glmserve.model_config.names import CACHE_PREFIX

_SHORTEST_COMMIT = 7
"""Characters of a commit that are enough to name it."""
_SHOWN = 12
"""Characters of a commit that are shown."""


def snapshot(cache: Path, name: HubName) -> Path | None:
    """The folder of a snapshot; None: the cache has none of this revision.

    Args:
        cache: the cache's folder.
        name: without a revision, the main branch as it was when it was fetched last.
    """
    folder = cache / f"{CACHE_PREFIX}{name.owner}--{name.model}"
    every = subfolders(folder / "snapshots")
    commit = _commit(folder, name.revision or "main")
    if commit is not None:
        return next((path for path in every if path.name == commit), None)
    if name.revision is None:  # a copy of a single snapshot
        return every[0] if len(every) == 1 else None
    if len(name.revision) < _SHORTEST_COMMIT:
        return None
    matching = [path for path in every if path.name.startswith(name.revision)]
    return matching[0] if len(matching) == 1 else None


def snapshots(cache: Path) -> Iterator[tuple[HubName, Path]]:
    """Every revision in the cache, with its folder: the main branch by the model's name alone, the
    others with a branch, a tag or a commit."""
    for folder in subfolders(cache):
        owner, separator, model = folder.name.removeprefix(CACHE_PREFIX).partition("--")
        if not folder.name.startswith(CACHE_PREFIX) or not separator:
            continue
        name = HubName(owner, model)
        main = snapshot(cache, name)
        if main is not None:
            yield name, main
        references = dict(_references(folder / "refs"))
        for path in subfolders(folder / "snapshots"):
            if path != main:
                commit = path.name
                yield HubName(owner, model, references.get(commit, commit[:_SHOWN])), path


def _references(folder: Path) -> Iterator[tuple[str, str]]:
    """Commits, and the branches and tags that stand for them."""
    try:
        paths = sorted(folder.rglob("*"))
    except OSError:
        return
    for path in paths:
        try:
            yield path.read_text(encoding="ascii").strip(), str(path.relative_to(folder))
        except (OSError, UnicodeDecodeError):  # a folder, or damaged
            continue


def _commit(folder: Path, revision: str) -> str | None:
    """The commit that a branch, a tag or another reference stands for."""
    for reference in (revision, f"refs/{revision}", revision.removeprefix("refs/")):
        try:
            commit = (folder / "refs" / reference).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if commit and "/" not in commit and commit not in (".", ".."):
            return commit
    return None
