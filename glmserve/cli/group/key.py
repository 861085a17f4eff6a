"""The secret that the machines of a group share."""

from __future__ import annotations

import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from glmserve.errors import OptionError

KEY_VARIABLE = "GLMSERVE_GROUP_KEY"
_SHORTEST = 16
"""Bytes. A shorter key can be guessed from a handshake that was overheard."""


def read_group_key(
    file: Path | None, environment: Mapping[str, str], *, on_loopback: bool
) -> bytes:
    """The key: of the file, else of the environment. Blanks around it do not count.

    Args:
        on_loopback: whether all members are on this machine; they need no key.

    Raises:
        OptionError: there is none, or it is too short.
    """
    origin, text = KEY_VARIABLE, environment.get(KEY_VARIABLE)
    if file is not None:
        origin, text = f"--group-key-file {file}", _read(file)
    if text is None and on_loopback:
        return b""
    if text is None:
        raise OptionError(
            "a group of several machines needs a secret that all of them know: write one into a "
            f"file, for example by `openssl rand -hex 32`, and give --group-key-file or "
            f"{KEY_VARIABLE} on each machine"
        )
    key = text.strip().encode("utf-8", "surrogateescape")
    if len(key) < _SHORTEST:
        raise OptionError(f"{origin}: the key must have at least {_SHORTEST} characters")
    return key


def _read(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"--group-key-file {file}: {reason.lower()}") from None
    if mode & stat.S_IROTH:
        print(
            f"glmserve: warning: every user of this machine can read {file}; run chmod 600 on it",
            file=sys.stderr,
        )
    return text
