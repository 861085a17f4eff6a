"""Which files of a repository a server needs, and which of them a folder lacks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

_SAFETENSORS = re.compile(
    r"(model(-\d+-of-\d+)?|quant_model_weight[\w.-]*|adapter_model)\.safetensors"
)
_BIN = re.compile(r"(pytorch_model(-\d+-of-\d+)?|adapter_model)\.bin")
# No name has characters that patterns give a meaning to: huggingface_hub reads these as patterns.
_OTHERS = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens"
    r"|chat_template|adapter_config|quant_model_description\w*)\.json"
    r"|[\w.-]+\.index\.json|vocab\.(json|txt)|merges\.txt|tokenizer\.model|ice_text\.model"
    r"|chat_template\.jinja|additional_chat_templates/[\w.-]+\.jinja|(LICENSE|MODEL_LICENSE)[\w.-]*"
)
_TOKENIZERS = ("tokenizer.model", "tokenizer.json", "ice_text.model")


Kind = Literal["model", "part"]
"""A whole model; or a prefix or an adapter, which has no tokenizer of its own."""

CONFIGS = ("config.json", "adapter_config.json")
"""One of these says what a repository holds; the second one is an adapter's."""


class RepositoryFile(NamedTuple):
    """A file of a repository on a hub."""

    path: str
    size: int
    """Bytes."""
    sha256: str | None = None


def needed_files(files: Iterable[RepositoryFile]) -> list[RepositoryFile]:
    """The files to fetch: weights, config and tokenizer; never code.

    Weights in safetensors are preferred. Those in .bin are taken if there are none.
    """
    listed = [file for file in files if not file.path.endswith(".py")]
    weights = [file for file in listed if _SAFETENSORS.fullmatch(file.path)]
    has_safetensors = bool(weights)
    if not has_safetensors:
        weights = [file for file in listed if _BIN.fullmatch(file.path)]
    others = [
        file
        for file in listed
        if _OTHERS.fullmatch(file.path) and not (has_safetensors and ".bin." in file.path)
    ]
    return [*others, *weights]


def missing_files(folder: Path, kind: Kind = "model") -> list[str]:
    """Names of files without which the content of a folder cannot be served; empty: it is complete.

    A link to a file that is not there counts as a missing file. Downloads that were cut leave such.
    """
    configs = CONFIGS if kind == "part" else CONFIGS[:1]
    missing = [] if any(is_file(folder / name) for name in configs) else ["config.json"]
    if kind == "model" and not any(is_file(folder / name) for name in _TOKENIZERS):
        missing.append("tokenizer.json or tokenizer.model")
    indexes = [folder / name for name in _INDEXES if is_file(folder / name)]
    incomplete = [lacking for index in indexes if (lacking := _lacking(index))]
    if indexes and len(incomplete) == len(indexes):
        return missing + incomplete[0]
    if not indexes and not any(map(_is_weights, _names(folder))):
        missing.append("model.safetensors")
    missing += [name for name in _names(folder) if _is_broken_weight(folder / name)]
    return missing


def weight_bytes(folder: Path) -> int:
    """Size of the weight files in a folder. Links count as what they lead to."""
    weights = (folder / name for name in _names(folder) if _is_weights(name))
    return sum(path.stat().st_size for path in weights if is_file(path))


def is_file(path: Path) -> bool:
    """Whether there is a file, as far as the user may look: caches are shared."""
    try:
        return path.is_file()
    except OSError:
        return False


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, by name; none if the user may not look into it."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits. About a second for each gigabyte."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _is_weights(name: str) -> bool:
    return bool(_SAFETENSORS.fullmatch(name) or _BIN.fullmatch(name))


def _is_broken_weight(path: Path) -> bool:
    return _is_weights(path.name) and path.is_symlink() and not path.exists()


def _lacking(index: Path) -> list[str]:
    """Files that an index names and that are not there."""
    try:
        names = read_json_object(index).get("weight_map", {})
    except CheckpointError:
        return [index.name]
    files = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    return [name for name in files if not is_file(index.parent / name)]
