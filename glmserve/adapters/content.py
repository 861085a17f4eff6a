"""The files that make up an adapter, and its identity: the hash of their content."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from glmserve.adapters.config import as_adapter_errors, config_file, read_adapter_config
from glmserve.adapters.fields import asks_for_nothing
from glmserve.adapters.lora_fields import NEUTRAL
from glmserve.errors import AdapterError
from glmserve.model_config.reader import read_json_object

_PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""The first that exists is read, as by PEFT."""
_P_TUNING_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PORTION = 2**20
"""Bytes that are hashed at a time."""


def weights_file(folder: Path) -> Path:
    """The file with an adapter's weights.

    Raises:
        AdapterError: there is none.
    """
    config = config_file(folder)
    names = _PEFT_WEIGHTS if config.name == "adapter_config.json" else _P_TUNING_WEIGHTS
    for name in names:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise AdapterError(f"{folder}: weights in several files are not read for an adapter")
    raise AdapterError(f"{folder}: no weights; expected {names[0]} or {names[1]}")


def digest(folder: Path) -> str:
    """Identify an adapter by what changes its answers: settings with an effect, and the weights.

    It reads the whole weights file, so it takes about a second for each gigabyte.

    Returns:
        64 hexadecimal digits. Equal adapters have the same in any folder.

    Raises:
        AdapterError: the folder holds no adapter that glmserve serves, or cannot be read.
    """
    config = read_adapter_config(folder)
    with as_adapter_errors():
        fields = read_json_object(config_file(folder))
    hashed = sha256(config.kind.encode() + b"\0" + _settings(fields))
    path = weights_file(folder)
    try:
        hashed.update(f"\0{path.suffix}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while portion := file.read(_PORTION):
                hashed.update(portion)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}") from None
    return hashed.hexdigest()


def _settings(fields: dict[str, Any]) -> bytes:
    """Fields with an effect, in one form. A list of names has no order: PEFT writes it from a set.
    The order of patterns counts, because the first that matches is taken."""
    effective = [
        (field, sorted(value) if _is_list_of_names(value) else value)
        for field, value in sorted(fields.items())
        if field not in NEUTRAL and not asks_for_nothing(value)
    ]
    return json.dumps(effective).encode()


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
