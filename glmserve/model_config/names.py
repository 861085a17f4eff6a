"""Derives a checkpoint's generation from its names and files."""

from __future__ import annotations

import re
from pathlib import Path

from glmserve.config import RopeScaling
from glmserve.model_config.reader import read_json_object
from glmserve.process.paths import readable_name

CACHE_PREFIX = "models--"
"""Begins the name of a model's folder in Hugging Face's cache."""


def rope_meaning(folder: Path) -> RopeScaling | None:
    """The meaning of rope_ratio for the checkpoint in `folder`; None: names and files do not show
    it.

    Raises:
        CheckpointError: a JSON file cannot be read.
    """
    if _is_tiktoken(folder / "tokenizer.model"):
        return "base"
    meanings: set[RopeScaling] = set()
    for name in map(str.lower, name_hints(folder)):
        if re.search(r"chatglm-?2(?!\d)", name):
            meanings.add("positions")
        if re.search(r"chatglm-?3(?!\d)|glm-?4(?!\d)|codegeex4", name):
            meanings.add("base")
    return meanings.pop() if len(meanings) == 1 else None


def name_hints(folder: Path) -> list[str]:
    """Names of a checkpoint: those in its JSON files, then the name of its folder.

    Raises:
        CheckpointError: a JSON file cannot be read.
    """
    hints = []
    for key in ("_name_or_path", "name_or_path"):
        for file in ("tokenizer_config.json", "config.json"):
            if (folder / file).is_file():
                hints.append(read_json_object(folder / file).get(key))
    return [*(hint for hint in hints if isinstance(hint, str)), model_name(folder)]


def model_name(folder: Path) -> str:
    """The name of the model in a folder: the folder's, or that of the repository if the folder is a
    snapshot in Hugging Face's cache (models--ORG--NAME/snapshots/SHA) or in ModelScope's
    (ORG--NAME/snapshots/REVISION). In the name of a folder ModelScope writes ___ for a dot."""
    resolved = folder.resolve()
    repository = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and "--" in repository:
        return readable_name(repository.removeprefix(CACHE_PREFIX).split("--", 1)[-1])
    return readable_name(resolved.name.replace("___", "."))


def _is_tiktoken(path: Path) -> bool:
    """Whether the file is in tiktoken's format, as GLM-4's is: lines of base64 and a rank."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(512)
    return re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\r?\n", line) is not None
