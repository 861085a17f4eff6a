"""Paths whose bytes are not UTF-8.

Python holds such bytes as lone surrogates in a str, which neither JSON in UTF-8 nor libraries in
Rust and C++ take.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def readable_name(name: str) -> str:
    """A file's name as text that can be encoded. Bytes that are not UTF-8 are read as GB18030 if
    they can be, because such names come from Chinese systems, and are escaped otherwise."""
    data = os.fsencode(name)
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            pass
    return data.decode("utf-8", "backslashreplace")


def escaped(path: str) -> str:
    """A path as text that can be encoded, with escapes for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def shell_quoted(argument: str) -> str:
    """An argument as a shell reads it, in bash's notation if it is not UTF-8."""
    data = os.fsencode(argument)
    try:
        return shlex.quote(data.decode())
    except UnicodeDecodeError:
        plain = (
            chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}"
            for byte in data
        )
        return f"$'{''.join(plain)}'"


@contextmanager
def utf8_alias(path: Path) -> Iterator[Path]:
    """A path of the same file in UTF-8, which is valid until the context ends.

    The file need not exist if only its folder's name is not UTF-8.

    Raises:
        OSError: the file or its folder cannot be opened.
    """
    if _is_utf8(path):
        yield path
        return
    folder_alone = _is_utf8(Path(path.name))
    descriptor = os.open(path.parent if folder_alone else path, os.O_RDONLY)
    try:
        alias = Path(f"/proc/self/fd/{descriptor}")
        yield alias / path.name if folder_alone else alias
    finally:
        os.close(descriptor)


def _is_utf8(path: Path) -> bool:
    try:
        return os.fsencode(path) == str(path).encode()
    except UnicodeEncodeError:
        return False
