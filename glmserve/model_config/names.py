"""What a checkpoint's names and files tell about its generation."""

from __future__ import annotations

import re
from pathlib import Path

from glmserve.config import RopeScaling
from glmserve.model_config.reader import read_json_object


def rope_meaning(folder: Path) -> RopeScaling | None:
    """What rope_ratio means for the checkpoint in `folder`; None when nothing tells."""
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
    """Names a checkpoint goes by: those it was published under, then its folder's own."""
    hints = []
    for key in ("_name_or_path", "name_or_path"):
        for file in ("tokenizer_config.json", "config.json"):
            if (folder / file).is_file():
                hints.append(read_json_object(folder / file).get(key))
    return [*(hint for hint in hints if isinstance(hint, str)), folder.resolve().name]


def _is_tiktoken(path: Path) -> bool:
    """GLM-4's tokenizer.model is text: lines of base64 and a rank."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(512)
    return re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\r?\n", line) is not None
