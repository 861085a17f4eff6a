"""Typed reading of a checkpoint's config.json. Every error names the file and the field."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError

_MISSING: Any = object()
_LARGEST = 1e30
"""Far above every number of an architecture, and within the range of float32."""
_LARGEST_ID = 2**31 - 1
_LARGEST_FILE = 256 * 2**20
"""Bytes of a configuration, an index or a tokenizer file; the largest known one has 20 MB."""
_LONGEST_VALUE = 100  # characters that an error message repeats


def locate_config(checkpoint: Path) -> Path:
    """The config.json of a checkpoint given as a folder or as one weights file.

    Raises:
        CheckpointError: the path or its config.json does not exist.
    """
    if not checkpoint.exists():
        raise CheckpointError(f"{checkpoint}: no such file or folder")
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "config.json"
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; a checkpoint needs its config.json there")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a checkpoint needs its config.json")
    return path


def read_whole(path: Path) -> bytes:
    """The content of a file other than a weights file.

    Raises:
        CheckpointError: the file is missing, unreadable, too large, or a pipe or device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: not a file")
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST_FILE:
        raise CheckpointError(f"{path}: larger than {_LARGEST_FILE} bytes")
    return data


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a JSON file with an object as its root.

    Raises:
        CheckpointError: the file is missing, unreadable, or not a JSON object.
    """
    content = read_whole(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CheckpointError(f"{path}: is encoded in UTF-16; save it as UTF-8")
    try:
        data = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {_json_problem(error)}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError) and error.doc[: error.pos].rstrip().endswith(","):
        return f"{error} (is the comma before it one too many?)"
    return str(error)


class ConfigReader:
    """Reads fields one by one and remembers which were read, so that unread ones can be reported.

    Raises:
        CheckpointError: the file is missing, unreadable, or not a JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = read_json_object(path)
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def refuse(self, key: str, why: str) -> CheckpointError:
        """The error for a field with an unsupported value; the caller raises it."""
        value = repr(self._data.get(key))
        if len(value) > _LONGEST_VALUE:
            value = f"{value[:_LONGEST_VALUE]}..."
        return CheckpointError(f"{self.path}: {key} = {value}: {why}")

    def value(self, key: str) -> Any:
        """The value as it is in the file; None for a missing or null field."""
        return self._data.get(key)

    def mark_read(self, key: str) -> None:
        """Leave the field out of `unread`."""
        self._read.add(key)

    def integer(self, key: str, default: int = _MISSING, *, maximum: int = 2**31 - 1) -> int:
        """A whole number from 1 to `maximum`. A missing or null field has the default.

        Raises:
            CheckpointError: there is no default, or the value is of another type or out of range.
        """
        value = self._value(key, default, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refuse(key, "expected a whole number")
        if value < 1:
            raise self.refuse(key, "expected at least 1")
        if value > maximum:
            raise CheckpointError(f"{self.path}: {key} is too large; at most {maximum}")
        return value

    def number(self, key: str, default: float = _MISSING) -> float:
        """A positive number below 1e30. A missing or null field has the default.

        Raises:
            CheckpointError: there is no default, or the value is of another type or out of range.
        """
        value = self._value(key, default, "a number")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(key, "expected a number")
        if not 0 < value < _LARGEST:
            raise CheckpointError(
                f"{self.path}: {key}: expected a positive number below {_LARGEST:g}"
            )
        return float(value)

    def boolean(self, key: str, default: bool = _MISSING) -> bool:
        """true or false. A missing or null field has the default.

        Raises:
            CheckpointError: there is no default, or the value is of another type.
        """
        value = self._value(key, default, "true or false")
        if not isinstance(value, bool):
            raise self.refuse(key, "expected true or false")
        return value

    def text(self, key: str, default: str = _MISSING) -> str:
        """A string. A missing or null field has the default.

        Raises:
            CheckpointError: there is no default, or the value is of another type.
        """
        value = self._value(key, default, "a string")
        if not isinstance(value, str):
            raise self.refuse(key, "expected a string")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A whole number from 0, or a list of them; () if the field is missing.

        Raises:
            CheckpointError: a value is of another type or out of range.
        """
        value = self._value(key, [], "a whole number or a list of them")
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in values):
            raise self.refuse(key, "expected a whole number or a list of them")
        if max(values, default=0) > _LARGEST_ID:
            raise self.refuse(key, f"too large; at most {_LARGEST_ID}")
        return tuple(values)

    def mapping(self, key: str) -> dict[str, Any]:
        """A JSON object; empty if the field is missing.

        Raises:
            CheckpointError: the value is of another type.
        """
        value = self._value(key, {}, "an object")
        if not isinstance(value, dict):
            raise self.refuse(key, "expected an object")
        return value

    def require_equal(self, key: str, supported: object, why: str) -> None:
        """Check that a field is missing or has the only supported value.

        Raises:
            CheckpointError: it has another value; the message ends with `why`.
        """
        self._read.add(key)
        if key in self and self._data[key] != supported:
            raise self.refuse(key, why)

    def unread(self, known_without_effect: Collection[str]) -> list[str]:
        """Names of fields in the file that were not read and are not in `known_without_effect`."""
        return sorted(set(self._data) - self._read - set(known_without_effect))

    def _value(self, key: str, default: Any, expected: str) -> Any:
        self._read.add(key)
        value = self._data.get(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise CheckpointError(f"{self.path}: {key} is missing, expected {expected}")
        return default
