"""Names of options: the official one, and the aliases that users of other servers type."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class OptionNames(NamedTuple):
    """The names of one option."""

    official: tuple[str, ...]
    """One name; for a switch that can be turned off also its `--no-` form."""
    aliases: tuple[str, ...]


def names_of(action: argparse.Action) -> OptionNames:
    """The names under which the parser knows an option. A positional argument has none."""
    if not action.option_strings or action.dest == "help":
        return OptionNames(tuple(action.option_strings), ())
    first = action.option_strings[0]
    both = (first, _negated(first))
    official = tuple(name for name in both if name in action.option_strings)
    aliases = tuple(name for name in action.option_strings if name not in official)
    return OptionNames(official, aliases)


def with_official_names(arguments: Iterable[str], actions: Sequence[argparse.Action]) -> list[str]:
    """The same command line, with every alias replaced by its option's official name."""
    official = dict(pair for action in actions for pair in _translations(names_of(action)))
    return [_translated(argument, official) for argument in arguments]


def _translations(names: OptionNames) -> Iterable[tuple[str, str]]:
    for alias in names.aliases:
        negative = alias.startswith("--no-") and len(names.official) > 1
        yield alias, names.official[1 if negative else 0]


def _translated(argument: str, official: Mapping[str, str]) -> str:
    name, equals, value = argument.partition("=")
    return official.get(name, name) + equals + value


def _negated(name: str) -> str:
    return f"--no-{name.removeprefix('--')}"
