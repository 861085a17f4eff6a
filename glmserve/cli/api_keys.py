"""API keys: from the command line, the environment and a file, all valid at once."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path

from glmserve.cli import values
from glmserve.errors import OptionError

KEY_VARIABLE = "GLMSERVE_API_KEY"
ADMIN_KEY_VARIABLE = "GLMSERVE_ADMIN_KEY"


def read_api_keys(key: str | None, file: Path | None) -> tuple[str, ...]:
    """Every valid key, each once; none: the server is open.

    Raises:
        OptionError: the environment's key or the file is wrong.
    """
    keys = [key] if key is not None else []
    if (variable := os.environ.get(KEY_VARIABLE)) is not None:
        keys.append(_checked(variable, KEY_VARIABLE))
    if file is not None:
        keys += _keys_in(file)
    return tuple(dict.fromkeys(keys))


def read_admin_key(key: str | None) -> str | None:
    """The operator's key; the environment's, unless the command line has one.

    Raises:
        OptionError: the environment's key is wrong.
    """
    variable = os.environ.get(ADMIN_KEY_VARIABLE)
    if key is None and variable is not None:
        return _checked(variable, ADMIN_KEY_VARIABLE)
    return key


def _keys_in(file: Path) -> list[str]:
    """One key a line; blank lines and lines that begin with # are none."""
    option = f"--api-key-file {file}"
    try:
        mode = file.stat().st_mode
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"{option}: {reason.lower()}") from None
    except UnicodeDecodeError:
        raise OptionError(f"{option} is not valid UTF-8") from None
    keys = [
        _checked(line.strip(), f"{option}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not keys:
        raise OptionError(f"{option} has no key in it; write one a line")
    if mode & stat.S_IROTH:
        print(
            f"glmserve: warning: everybody on this machine can read {file}; chmod 600 ends that",
            file=sys.stderr,
        )
    return keys


def _checked(key: str, origin: str) -> str:
    try:
        return values.api_key(key)
    except argparse.ArgumentTypeError as error:
        raise OptionError(f"{origin} {error}") from None
