"""Functions for argparse's `type=`. Each raises ArgumentTypeError with a message that says what is
valid."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from glmserve.capacity.lengths import Length, parse_length
from glmserve.config import NamedAdapter
from glmserve.errors import OptionError
from glmserve.hub.name import HubName, parse_name
from glmserve.model_config.names import CACHE_PREFIX

_LARGEST = 2**63
_LARGEST_COUNT = 2**31 - 1
_LONGEST_TIME = 365 * 24 * 3600.0
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def checkpoint(text: str) -> Path | HubName:
    """A checkpoint's path, or its name on a hub if no file has this path.

    A model's folder in Hugging Face's cache stands for the snapshot in it that its main branch
    names, or for its only snapshot.
    """
    path = Path(text)
    if not path.exists() and (name := _hub_name(text)) is not None:
        return name
    snapshots = path / "snapshots"
    if not path.resolve().name.startswith(CACHE_PREFIX) or not snapshots.is_dir():
        return path
    try:
        return snapshots / Path((path / "refs" / "main").read_text(encoding="ascii").strip()).name
    except (OSError, UnicodeDecodeError):
        found = sorted(snapshots.iterdir())
    if len(found) == 1:
        return found[0]
    raise argparse.ArgumentTypeError(
        f"{text} has no refs/main, and {len(found)} snapshots; give the path of one of them"
    )


def hub_name(text: str) -> HubName:
    """The name of a model on a hub."""
    name = _hub_name(text)
    if name is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name of a model; write it like zai-org/chatglm3-6b"
        )
    return name


def _hub_name(text: str) -> HubName | None:
    try:
        return parse_name(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def non_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def port(text: str) -> int:
    """A TCP port; 0 lets the system choose."""
    value = _whole(text, 0)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; ports end at 65535")
    return value


def root_path(text: str) -> str:
    """A prefix of paths: begins with a slash; a slash at its end is dropped."""
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/[\w.~-]+)+", path, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path prefix such as /glm")
    return path


def http_error_status(text: str) -> int:
    """An HTTP status for a refused request: 400 to 599."""
    value = _whole(text, 400)
    if value > 599:
        raise argparse.ArgumentTypeError(f"{text} is no HTTP error status (400 to 599)")
    return value


def batch_sizes(text: str) -> tuple[int, ...]:
    """Numbers of sequences, such as 1,8,16; ascending, each once."""
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of sizes; write it like 1,8,16")
    return tuple(sorted(set(map(int, text.split(",")))))


def cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers in Linux's notation: 0-3,8 is 0, 1, 2, 3 and 8."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip())
        if not match or int(match[1]) > int(match[2] or match[1]):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of CPUs; write it like 0-15,32")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def seconds(text: str) -> float:
    """A time of at least 0, and less than a year."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not 0 <= value < _LONGEST_TIME:
        raise argparse.ArgumentTypeError(f"{text} is no time between 0 and a year, in seconds")
    return value


def seconds_or_auto(text: str) -> float | None:
    """A time as of `seconds`; None for auto."""
    return None if text == "auto" else seconds(text)


def number_or_auto(text: str) -> int | None:
    """A number as of `non_negative`; None for auto."""
    return None if text == "auto" else non_negative(text)


def silence(text: str) -> float:
    """A time of at least a second: shorter silences are no sign of anything."""
    value = seconds(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too short; at least 1 second")
    return value


def address(text: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 address stands in brackets."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:\[\]]+)):(\d{1,5})", text)
    if not match or not 1 <= int(match[3]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write it like host-a:29600")
    return match[1] or match[2], int(match[3])


def share(text: str) -> float:
    """A fraction: more than 0, at most 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; write a number up to 1, like 0.9")
    return value


def tolerance(text: str) -> float:
    """A positive number."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def temperature(text: str) -> float:
    """A number from 0 to 2, as in the request field of that name."""
    value = _number(text)
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2")
    return value


def weight(text: str) -> float:
    """A relative weight from 0.001 to 1000, so that every tenant gets a share."""
    value = _number(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no weight between 0.001 and 1000")
    return value


def priority(text: str) -> int:
    """A priority, as in the request field of that name."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if not -_LARGEST_COUNT <= value <= _LARGEST_COUNT:
        raise argparse.ArgumentTypeError(f"{text} is out of range")
    return value


def named_adapter(text: str) -> NamedAdapter:
    """NAME=PATH of an adapter, or NAME and its name on a hub; see `checkpoint`.

    The path may contain further equals signs.
    """
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not written like NAME=PATH")
    if not name.isprintable() or not name.strip() or "," in name or len(name) > 200:
        raise argparse.ArgumentTypeError(
            f"{name!r} is no name: 1 to 200 printable characters, no comma"
        )
    folder: Any = checkpoint(path)  # a name becomes a folder before a command runs
    return NamedAdapter(non_empty(name), folder)


def num_bytes(text: str) -> int:
    """Bytes, with an optional unit: 4G, 512M, 1.5GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    value = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    if not 1 <= value < _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write bytes, or like 512M or 4G")
    return int(value)


def non_empty(value: str) -> str:
    """Non-empty valid text. An unset shell variable is refused."""
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not valid UTF-8") from None
    return value


def api_key(value: str) -> str:
    """Text that a client can send in a header."""
    if any(c.isspace() or not c.isprintable() for c in non_empty(value)):
        raise argparse.ArgumentTypeError("must not contain blanks or control characters")
    return value


def origin(value: str) -> str:
    """The origin of a web page as browsers write it; `*` is any."""
    if value not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+", value):
        raise argparse.ArgumentTypeError(
            f"{value!r} is no origin; write it like https://example.org:8443, without a path"
        )
    return value


def rate(value: str) -> float:
    """A number a second, above 0."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{value}: a rate is a number above 0")
    return number


def length(value: str) -> Length:
    """See `parse_length`."""
    try:
        return parse_length(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{value!r}: write 128, uniform:64:256 (from, to) or normal:128:32 (mean, deviation)"
        ) from None


def http_url(value: str) -> str:
    """A URL of http or https with a host."""
    if not re.fullmatch(r"https?://[^/?#\s]+(/[^\s]*)?", value):
        raise argparse.ArgumentTypeError(f"{value!r} is no URL of http or https")
    return value


def seed(value: str) -> int:
    """A signed integer of 64 bits."""
    try:
        number = int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number") from None
    if not -_LARGEST <= number < _LARGEST:
        raise argparse.ArgumentTypeError(f"{value} does not fit into 64 bits")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def _whole(text: str, minimum: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < minimum:
        raise argparse.ArgumentTypeError(f"{value} is too small; at least {minimum}")
    if value > _LARGEST_COUNT:
        raise argparse.ArgumentTypeError(f"{text} is too large; at most {_LARGEST_COUNT}")
    return value
