"""A new folder in place of a checkpoint: it appears whole, with the files besides the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from glmserve.model_config import model_name
from glmserve.model_config.reader import read_json_object

_COPIED_SUFFIXES = {".json", ".model", ".txt", ".jinja", ".py"}
_COPIED_PREFIXES = ("LICENSE", "MODEL_LICENSE")


@contextmanager
def appearing_whole(folder: Path, target: Path) -> Iterator[Path]:
    """A new folder that is renamed to `target` at the end, or removed on an error."""
    folder.mkdir(parents=True)
    try:
        yield folder
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def copy_other_files(source: Path, folder: Path) -> None:
    """Copy tokenizer, templates, licence, and the publisher's code, which glmserve never runs."""
    for path in sorted(source.iterdir()):
        is_wanted = path.suffix in _COPIED_SUFFIXES or path.name.startswith(_COPIED_PREFIXES)
        if path.is_file() and is_wanted and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    templates = source / "additional_chat_templates"
    if templates.is_dir():
        shutil.copytree(templates, folder / templates.name)


def write_config(source: Path, folder: Path, added: Mapping[str, object]) -> None:
    """Write the config.json at `source` with some fields added."""
    fields = {**read_json_object(source), **added}
    # The folder's name may be the only hint to the generation, and the new folder has another name.
    fields["_name_or_path"] = fields.get("_name_or_path") or model_name(source.parent)
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
