"""Finds the chat templates of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object, read_whole

DEFAULT, TOOL_USE = "default", "tool_use"


@dataclass(frozen=True)
class ChatTemplates:
    """The templates of a checkpoint, or one that the user gave.

    Attributes:
        path: the file that they come from.
        sources: by name; there is a default one.
        variables: special tokens by the names that templates give them.
    """

    path: Path
    sources: Mapping[str, str]
    variables: Mapping[str, str]

    def name_for(self, *, tools: bool) -> str:
        """The name of the template for a conversation with or without tools."""
        return TOOL_USE if tools and TOOL_USE in self.sources else DEFAULT


def find_templates(folder: Path, given: Path | None = None) -> ChatTemplates | None:
    """The templates of the checkpoint in `folder`, or the one in the file `given`.

    As in transformers, chat_template.jinja comes before chat_template.json, and that before
    tokenizer_config.json.

    Raises:
        CheckpointError: a file cannot be read, or holds no template.
    """
    config_path = folder / "tokenizer_config.json"
    config = read_json_object(config_path) if config_path.is_file() else {}
    variables = _special_tokens(config)
    single = given or folder / "chat_template.jinja"
    if given is not None or single.is_file():
        return ChatTemplates(single, {DEFAULT: _text(single), **_additional(folder)}, variables)
    legacy = folder / "chat_template.json"
    for path in (legacy, config_path):
        data = read_json_object(path).get("chat_template") if path.is_file() else None
        if data is not None and data != "":
            return ChatTemplates(path, _sources(path, data), variables)
    return None


def _additional(folder: Path) -> dict[str, str]:
    path = folder / "additional_chat_templates" / f"{TOOL_USE}.jinja"
    return {TOOL_USE: _text(path)} if path.is_file() else {}


def _text(path: Path) -> str:
    try:
        return read_whole(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None


def _sources(path: Path, data: Any) -> dict[str, str]:
    """Templates as tokenizer_config.json holds them: one, or a list of named ones."""
    if isinstance(data, str):
        return {DEFAULT: data}
    try:
        named = {str(entry["name"]): str(entry["template"]) for entry in data}
    except (TypeError, KeyError):
        named = {}
    if DEFAULT not in named:
        raise CheckpointError(f"{path}: chat_template holds no template with the name {DEFAULT!r}")
    return named


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            found[key] = text
    return found
