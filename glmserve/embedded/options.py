"""The options of `glmserve serve` by their names in Python, with the same defaults and checks."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from glmserve.cli import serve
from glmserve.cli.hub_names import resolve_names
from glmserve.errors import OptionError

_OF_HTTP = {"connections", "journal", "batches", "access", "observation"}
"""Groups of options that mean nothing without HTTP."""
_SINGLE_OF_HTTP = {
    *("host", "port", "uds", "root_path", "drain_timeout", "max_body_size", "cors_origin"),
    "queue_full_status",
}
_OF_MACHINES = {"num_machines", "machine_rank", "leader", "group_key_file"}
_ARGUMENT = re.compile(r"^argument (?:-\w, )?--([\w-]+)[^:]*: ")


def read_options(options: Mapping[str, Any]) -> argparse.Namespace:
    """The options of a server in this process.

    Args:
        options: by the names of the command line, with underscores: `max_batch_size=8`. Aliases
            are known, too. A switch is True; False and None are the same as no option. Of an
            option that may be given several times the value is a list, and of `adapter` a dict of
            paths by name.

    Raises:
        OptionError: an option is unknown, its value is wrong, or it means nothing without HTTP.
        CheckpointError: a name of a model cannot be found on its hub.
    """
    parser = _parser()
    known = {name: action for action in parser._actions for name in _names(action)}
    arguments: list[str] = []
    given: dict[str, str] = {}
    for name, value in options.items():
        if name not in known:
            raise OptionError(f"{name}: glmserve serve has no option --{name.replace('_', '-')}")
        added = _arguments(name, value, known[name])
        if added and (other := given.setdefault(known[name].dest, name)) != name:
            raise OptionError(f"{name}: the same option as {other}; give one of them")
        arguments += added
    return complete(parser.parse_args(arguments), parser)


def complete(
    options: argparse.Namespace, parser: argparse.ArgumentParser | None = None
) -> argparse.Namespace:
    """Add the defaults of all options of `serve` that a command does not have, and fetch models.

    Raises:
        OptionError: an option means nothing without HTTP.
        CheckpointError: a name of a model cannot be found on its hub.
    """
    parser = parser or _parser()
    completed = parser.parse_args([])
    _refuse_http(options, completed, parser)
    vars(completed).update(vars(options))
    resolve_names(completed, os.environ)
    return completed


class _Parser(argparse.ArgumentParser):
    """The options of `serve`, with errors that are raised and name the option as Python does."""

    def error(self, message: str) -> NoReturn:
        found = _ARGUMENT.match(message)
        if found is not None:
            message = f"{found[1].replace('-', '_')}: {message[found.end() :]}"
        raise OptionError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true")
    serve.add_options(parser)
    return parser


def _names(action: argparse.Action) -> Iterator[str]:
    """The names of an option in Python."""
    for option in action.option_strings:
        if option.startswith("--"):
            yield option.removeprefix("--").replace("-", "_")


def _arguments(name: str, value: Any, action: argparse.Action) -> list[str]:
    """What one would type for this value."""
    option = f"--{name.replace('_', '-')}"
    is_switch = action.nargs == 0
    if value is None or (value is False and not isinstance(action, argparse.BooleanOptionalAction)):
        if value is False and not is_switch:
            raise OptionError(f"{name}: must be a value, not False")
        return []
    if isinstance(value, bool):
        if not is_switch:
            raise OptionError(f"{name}: must be a value, not True")
        negated = f"--no-{name.replace('_', '-')}"
        return [option if value else negated]
    if is_switch:
        raise OptionError(f"{name}: must be True or False, not {value!r}")
    return [f"{option}={item}" for item in _items(name, value)]


def _items(name: str, value: Any) -> Sequence[object]:
    """Each value of an option that may be given several times."""
    if isinstance(value, Mapping):
        return [f"{key}={path}" for key, path in value.items()]
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (str, int, float, Path)):
        return [value]
    raise OptionError(f"{name}: a {type(value).__name__} is no value of an option")


def _refuse_http(
    options: argparse.Namespace, defaults: argparse.Namespace, parser: argparse.ArgumentParser
) -> None:
    for group in parser._action_groups:
        for action in group._group_actions:
            name = action.dest
            value = getattr(options, name, None)
            if value is None or value == getattr(defaults, name, None):
                continue
            if group.title in _OF_HTTP or name in _SINGLE_OF_HTTP:
                raise OptionError(f"{name}: means nothing without HTTP; it is for glmserve serve")
            if name in _OF_MACHINES or (name == "executor" and value not in ("local", "ray")):
                raise OptionError(
                    f"{name}: several machines need a command that runs on each of them; use "
                    "glmserve serve, or executor ray"
                )
