"""Reads the header of a safetensors file: where each tensor is.

It refuses a tensor name that appears twice, which the library accepts. The library checks the rest:
the size of the header, offsets within the file without gaps or overlaps, and shapes that match
them. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from glmserve.errors import CheckpointError

_LARGEST_HEADER = 100_000_000  # bytes; the library's own limit


class Header(NamedTuple):
    """What a file says about its tensors."""

    entries: dict[str, Any]
    """By tensor name: an object with dtype, shape and data_offsets, as long as the library has not
    refused the file; and perhaps __metadata__."""
    data_start: int
    """Byte of the file from which data_offsets count."""


class _StoredTwiceError(ValueError):
    pass


def read_header(path: Path) -> Header:
    """Read a header, and check that no name appears twice in it: readers differ in which of the two
    they take.

    Raises:
        CheckpointError: a name does, the header is damaged, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _LARGEST_HEADER:
                raise CheckpointError(f"{path}: the header claims to have {size} bytes")
            text = file.read(size)
        entries = json.loads(text, object_pairs_hook=_without_duplicates)
        if not isinstance(entries, dict):
            raise ValueError
        return Header(entries, 8 + size)
    except _StoredTwiceError as error:
        raise CheckpointError(f"{path}: {error}: stored a second time") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, RecursionError):
        raise CheckpointError(
            f"{path}: damaged or truncated safetensors file: its header is not valid JSON"
        ) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _StoredTwiceError(next(name for name in names if names.count(name) > 1)[:200])
    return found
