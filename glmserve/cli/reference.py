"""Writes the guide's page of options from the argument parser.

`python -m glmserve.cli.reference` writes `glmserve/guide/options.md`; a test keeps the two equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glmserve.cli.main import build_parser
from glmserve.cli.options.help_format import default_of
from glmserve.cli.options.names import names_of

PAGE = Path(__file__).parents[1] / "guide" / "options.md"

_HEAD = """\
# Options

This page is generated from the argument parser by `python -m glmserve.cli.reference`.
`glmserve COMMAND --help` prints the same texts.

A command exits with code 2 if an option is unknown or its value is wrong. It ignores no option.
An alias means exactly the same as its option: it is the name of that option in vLLM, SGLang or
llama.cpp. [Other names](apis.md#options-of-other-servers) have no exact equivalent.
"""
_TITLES = {"options": "General", "positional arguments": "Arguments"}


class _Group(NamedTuple):
    """One group of options, and the command that shows it."""

    command: str
    options: frozenset[str]


def render_reference(parser: argparse.ArgumentParser) -> str:
    """The page of options of all commands, as Markdown."""
    shown: dict[str, _Group] = {}
    sections = [_section(name, command, shown) for name, command in _commands(parser)]
    return "\n".join([_HEAD, *sections])


def main() -> None:
    """Write the page."""
    PAGE.write_text(render_reference(build_parser()), encoding="utf-8")


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, with its full name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _commands(command)
            return
    yield parser.prog, parser


def _section(name: str, command: argparse.ArgumentParser, shown: dict[str, _Group]) -> str:
    """One command. It refers to an earlier command for a group that this one has shown."""
    parts = [f"## {name}\n\n{command.description}\n"]
    for group in command._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if not actions:
            continue
        name_of_group = group.title or ""
        title = _TITLES.get(name_of_group, name_of_group[:1].upper() + name_of_group[1:])
        options = frozenset(option for action in actions for option in action.option_strings)
        earlier = shown.setdefault(title, _Group(name, options))
        if options and earlier.command != name and options <= earlier.options:
            anchor = earlier.command.replace(" ", "-")
            parts.append(f"*{title}*: the options are those of [{earlier.command}](#{anchor}).\n")
            continue
        rows = "".join(_row(action) for action in actions)
        parts.append(f"### {title}\n\n| option | meaning | default |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def _row(action: argparse.Action) -> str:
    names = names_of(action)
    shown = ", ".join(f"`{name}{_value(action)}`" for name in names.official or (action.metavar,))
    if names.aliases:
        shown += "<br>alias: " + ", ".join(f"`{name}`" for name in names.aliases)
    default = default_of(action)
    return f"| {shown} | {_text(action)} | {f'`{default}`' if default else ''} |\n"


def _value(action: argparse.Action) -> str:
    """What follows the name on a command line."""
    if not action.option_strings or action.nargs == 0:
        return ""
    values = "|".join(map(str, action.choices or ())) or str(action.metavar or action.dest.upper())
    several = " ..." if action.nargs == "+" else ""
    return f" {values.replace('|', chr(92) + '|')}{several}"


def _text(action: argparse.Action) -> str:
    return (action.help or "").replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    main()
