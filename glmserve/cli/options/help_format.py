"""How `--help` shows options: the official name, its aliases and its default."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli.options.names import names_of


class HelpFormatter(argparse.HelpFormatter):
    """Shows the official name of an option, and its aliases and its default behind the text."""

    def _get_help_string(self, action: argparse.Action) -> str:
        notes = []
        if aliases := names_of(action).aliases:
            notes.append(f"alias: {', '.join(aliases)}")
        if (default := default_of(action)) is not None:
            notes.append(f"default: {default}")
        text = action.help or ""
        return f"{text} ({'; '.join(notes)})".lstrip() if notes else text

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.dest == "help":
            return super()._format_action_invocation(action)
        names = ", ".join(names_of(action).official)
        if action.nargs == 0:
            return names
        return f"{names} {self._format_args(action, action.dest.upper())}"


def default_of(action: argparse.Action) -> str | None:
    """The default as a user would type it; None if the option has no fixed value by default."""
    default = action.default
    if default is None or default is False or default in ([], argparse.SUPPRESS):
        return None
    if isinstance(default, bool):
        return names_of(action).official[0]
    if isinstance(default, Path):
        return default.name
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)
