"""The command: its options, and what it talks to."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.cli import values
from glmserve.cli.api_keys import KEY_VARIABLE
from glmserve.cli.chat.conversation import Conversation, check, load, read_json
from glmserve.cli.options import (
    add_adapter_options,
    add_device_options,
    add_model_options,
    add_scheduling_options,
    add_worker_options,
)
from glmserve.errors import GlmserveError, OptionError, StartupError

if TYPE_CHECKING:
    from glmserve.cli.chat.session import Model

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


_OF_LOADING = {"model", "adapters", "device and memory", "scheduling", "worker"}
"""Groups of options that say how a model is loaded."""


def add_command(commands: Commands) -> None:
    """Add `chat` to the command line."""
    parser = commands.add_parser(
        "chat",
        help="talk to a model in the terminal",
        description="Talk to a model in the terminal: one that is loaded for this, or that of a "
        "server. /help lists the commands of a chat. A pipe is one message: echo hi | glmserve "
        "chat.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=partial(run, parser))
    _add_chat_options(parser)
    add_model_options(parser, positional=True)
    add_adapter_options(parser)
    add_device_options(parser)
    add_scheduling_options(parser)
    add_worker_options(parser)


def _add_chat_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("chat")
    group.add_argument(
        "--url",
        type=values.http_url,
        metavar="URL",
        help="talk to the server at this URL, such as http://localhost:8000; no model is loaded",
    )
    group.add_argument(
        "--api-key",
        type=values.api_key,
        metavar="KEY",
        help=f"with --url: key of the server; the environment variable {KEY_VARIABLE} is safer",
    )
    group.add_argument(
        "--model-name",
        type=values.non_empty,
        metavar="NAME",
        help="the model to talk to, or an adapter of it; default with --url: the server's first",
    )
    group.add_argument("--system", default="", metavar="TEXT", help="tell the model this first")
    group.add_argument("--load", type=Path, metavar="FILE", help="go on with a saved conversation")
    group.add_argument(
        "--tools", type=Path, metavar="FILE", help="tools that the model may call, as in the API"
    )
    group.add_argument(
        "--max-tokens",
        type=values.positive,
        metavar="N",
        help="longest answer; default: what fits into the context",
    )
    group.add_argument(
        "--temperature",
        type=values.temperature,
        metavar="T",
        help="0: always the most likely token; default: the server's",
    )
    group.add_argument(
        "--stats", action="store_true", help="show tokens and times after each answer"
    )
    group.add_argument(
        "--no-history", action="store_true", help="do not keep what is typed for the next chat"
    )


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Talk until the user ends it, or answer the message of a pipe.

    Raises:
        StartupError: the model or the server cannot be used, or the answer to a pipe failed.
        OptionError: two options contradict each other, or a file cannot be used.
    """
    conversation = _conversation(options)
    if options.url is None and options.api_key is not None:
        raise OptionError("--api-key is for --url")
    if options.url is not None:
        _refuse_loading(parser, options)
    text = None if sys.stdin.isatty() else _piped()
    try:
        with closing(_model(options)) as model:
            _talk(options, model, conversation, text)
    except StartupError:
        raise
    except GlmserveError as error:
        raise StartupError(error.message) from None


def _talk(
    options: argparse.Namespace, model: Model, conversation: Conversation, text: str | None
) -> None:
    from glmserve.cli.chat.session import Session
    from glmserve.cli.chat.terminal import line_reader, notice

    session = Session(model, conversation, shows_figures=options.stats)
    if text is not None:
        session.answer_once(text)
        return
    notice(f"{model.description}; /help lists the commands")
    session.talk(line_reader(os.environ, keeps_history=not options.no_history))


def _model(options: argparse.Namespace) -> Model:
    if options.url is not None:
        from glmserve.cli.chat.remote import RemoteModel

        key = options.api_key or os.environ.get(KEY_VARIABLE)
        return RemoteModel(options.url, key, options.model_name)
    from glmserve.cli.chat.embedded import EmbeddedModel

    return EmbeddedModel(options)


def _refuse_loading(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options of a model that is loaded here.

    Raises:
        OptionError: there is one.
    """
    defaults = parser.parse_args([])
    for group in parser._action_groups:
        if group.title not in _OF_LOADING:
            continue
        for action in group._group_actions:
            name = action.dest
            if getattr(options, name) != getattr(defaults, name):
                option = action.option_strings[0] if action.option_strings else action.metavar
                raise OptionError(
                    f"--url names a server, which has loaded its model; leave out {option}"
                )


def _conversation(options: argparse.Namespace) -> Conversation:
    """The conversation with which the chat begins.

    Raises:
        OptionError: a file cannot be used.
    """
    try:
        conversation = load(options.load) if options.load is not None else Conversation()
        if options.tools is not None:
            found = read_json(options.tools)
            conversation.tools = found if isinstance(found, list) else [found]
            check(conversation)
    except OSError as error:
        raise OptionError(f"{error.filename}: {error.strerror}") from None
    except GlmserveError as error:
        raise OptionError(error.message) from None
    conversation.system = options.system or conversation.system
    for name in ("max_tokens", "temperature"):
        if getattr(options, name) is not None:
            conversation.fields[name] = getattr(options, name)
    if options.url is None and options.model_name is not None:
        conversation.fields["model"] = options.model_name
    return conversation


def _piped() -> str:
    """The message of a pipe.

    Raises:
        OptionError: it is empty, or no text.
    """
    try:
        text = sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise OptionError("stdin is not UTF-8") from None
    if not text.strip():
        raise OptionError("stdin is empty: a chat needs a terminal or a message")
    return text
