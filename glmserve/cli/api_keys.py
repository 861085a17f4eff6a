"""Reads API keys from the command line, the environment and a file. All of them are valid."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmserve.cli import values
from glmserve.config import Tenant
from glmserve.errors import OptionError

KEY_VARIABLE = "GLMSERVE_API_KEY"
ADMIN_KEY_VARIABLE = "GLMSERVE_ADMIN_KEY"

_SETTINGS: dict[str, Callable[[str], Any]] = {
    "name": str,
    "weight": values.weight,
    "priority": values.priority,
    "max-requests": values.non_negative,
    "tokens-per-minute": values.non_negative,
}
"""Settings that may follow a key, as NAME=VALUE."""


def read_api_keys(given: Sequence[str], file: Path | None, defaults: Tenant) -> dict[str, Tenant]:
    """The tenant by API key. If it is empty, requests need no key.

    Args:
        given: the keys of the command line.
        file: a file with a key and its settings in each line.
        defaults: limits of keys without settings.

    Raises:
        OptionError: the environment's key or the file is invalid.
    """
    keys: dict[str, Tenant] = {}
    variable = os.environ.get(KEY_VARIABLE)
    own = [] if variable is None else [_checked(variable, KEY_VARIABLE)]
    for key in (*given, *own):
        keys.setdefault(key, _default_tenant(defaults, keys))
    if file is not None:
        _add_keys_in(file, defaults, keys)
    return keys


def read_admin_key(key: str | None) -> str | None:
    """The operator's key: from the command line, else from the environment.

    Raises:
        OptionError: the environment's key is invalid.
    """
    variable = os.environ.get(ADMIN_KEY_VARIABLE)
    if key is None and variable is not None:
        return _checked(variable, ADMIN_KEY_VARIABLE)
    return key


def _add_keys_in(file: Path, defaults: Tenant, keys: dict[str, Tenant]) -> None:
    """Read one key per line. Blank lines and lines that begin with # are skipped."""
    option = f"--api-key-file {file}"
    lines = [
        (f"{option}, line {number}", words)
        for number, line in enumerate(_read_lines(file, option), start=1)
        if (words := line.split()) and not words[0].startswith("#")
    ]
    if not lines:
        raise OptionError(f"{option} has no key in it; write one a line")
    named: dict[str, Mapping[str, object]] = {}  # the first settings of each name
    for origin, (key, *words) in lines:
        settings = _settings(words, origin)
        tenant = replace(_default_tenant(defaults, keys), **settings)
        if named.setdefault(tenant.name, settings) != settings:
            raise OptionError(
                f"{origin}: {tenant.name} has other settings in an earlier line; give all keys of "
                "one name the same"
            )
        key = _checked(key, origin)
        if keys.setdefault(key, tenant) != tenant and settings:
            raise OptionError(f"{origin}: this key is given twice; leave out one of them")


def _read_lines(file: Path, option: str) -> list[str]:
    try:
        mode = file.stat().st_mode
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"{option}: {reason.lower()}") from None
    except UnicodeDecodeError:
        raise OptionError(f"{option} is not valid UTF-8") from None
    if mode & stat.S_IROTH:
        print(
            f"glmserve: warning: every user of this machine can read {file}; run chmod 600 on it",
            file=sys.stderr,
        )
    return lines


def _settings(words: Sequence[str], origin: str) -> dict[str, Any]:
    """The settings of a line, as fields of Tenant."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _SETTINGS or not equals or not value:
            raise OptionError(
                f"{origin}: behind a key come only {', '.join(_SETTINGS)}, each as NAME=VALUE; a "
                "key must not contain blanks"
            )
        try:
            settings[name.replace("-", "_")] = _SETTINGS[name](value)
        except argparse.ArgumentTypeError as error:
            raise OptionError(f"{origin}: {name}: {error}") from None
    return settings


def _default_tenant(defaults: Tenant, keys: Mapping[str, Tenant]) -> Tenant:
    """The tenant of a key without a name. Its name has a blank, so no name in a file equals it."""
    return replace(defaults, name=f"key {len(keys) + 1}")


def _checked(key: str, origin: str) -> str:
    try:
        return values.api_key(key)
    except argparse.ArgumentTypeError as error:
        raise OptionError(f"{origin} {error}") from None
