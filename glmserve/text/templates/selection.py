"""Selects how conversations of a checkpoint are written: its own template comes first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object
from glmserve.text.chat_format import ChatFormat
from glmserve.text.chat_format_selection import read_name_hints, select_chat_format
from glmserve.text.templates.files import ChatTemplates, find_templates
from glmserve.text.templates.recognition import (
    check_messages,
    recognise,
    turn_ends,
    writes_tagged_calls,
)
from glmserve.text.templates.renderer import TemplateError
from glmserve.text.templates.template_format import TemplateFormat
from glmserve.text.tokenizer import Tokenizer

NATIVE, NONE = "native", "none"
"""Values of --chat-template besides a file."""


@dataclass(frozen=True)
class ChatOptions:
    """What the user says about conversations.

    Attributes:
        chat_format: name of a chat format, or None.
        chat_template: "native", "none" or the path of a template; None: the checkpoint's.
        is_strict: refuse conversations whose texts the template changes.
    """

    chat_format: str | None = None
    chat_template: str | None = None
    is_strict: bool = False


@dataclass(frozen=True)
class SelectedFormat:
    """The format of conversations, and why it is this one.

    Attributes:
        chat: None with --chat-template none.
        reason: a line for the user; empty if there is no template.
    """

    chat: ChatFormat | None
    reason: str = ""


def select_format(folder: Path, tokenizer: Tokenizer, options: ChatOptions) -> SelectedFormat:
    """The chat format of the checkpoint in `folder`.

    A name given by --chat-format or by the checkpoint's key "chat_format" comes first, then the
    template, then names and special tokens.

    Raises:
        OptionError: `chat_format` is not the name of a format.
        CheckpointError: the format is unknown, or the template cannot be used.
    """
    if options.chat_template == NONE:
        return SelectedFormat(None, "no conversations (--chat-template none)")
    hints = read_name_hints(folder)
    is_file = options.chat_template not in (None, NATIVE)
    is_named = options.chat_format is not None or (_names_format(folder) and not is_file)
    given = Path(options.chat_template) if is_file and options.chat_template else None
    templates = None if options.chat_template == NATIVE else find_templates(folder, given)
    if templates is None or is_named:
        chat = select_chat_format(hints, tokenizer, options.chat_format)
        unused = f"{chat.name}, not the chat template" if templates is not None else ""
        return SelectedFormat(chat, unused)
    return _by_template(tokenizer, templates, options)


def _by_template(
    tokenizer: Tokenizer, templates: ChatTemplates, options: ChatOptions
) -> SelectedFormat:
    template = TemplateFormat(tokenizer, templates, is_strict=options.is_strict)
    try:
        check_messages(template)
        known = recognise(template)
        if known is not None:
            template.close()
            return SelectedFormat(known, f"{known.name}, recognised by the chat template")
        template.end_with(turn_ends(template))
        template.writes_tools = writes_tagged_calls(template)
    except TemplateError as error:
        template.close()
        raise CheckpointError(
            f"{templates.path}: the chat template cannot be used: {error.message}; give another by "
            "--chat-template FILE, or --chat-template native for the model's own format"
        ) from None
    return SelectedFormat(template, f"rendered by the chat template in {templates.path.name}")


def _names_format(folder: Path) -> bool:
    """Whether glmserve's own key "chat_format" names the format."""
    paths = (folder / "tokenizer_config.json", folder / "config.json")
    return any(path.is_file() and read_json_object(path).get("chat_format") for path in paths)
