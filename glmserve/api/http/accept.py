"""The header Accept: which of the possible media types a client prefers (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_WEIGHT = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


class MediaRange(NamedTuple):
    """What a client accepts, such as text/plain;version=0.0.4."""

    media_type: str
    parameters: dict[str, str]
    """Without the weight."""


def accepted(header: str) -> Sequence[MediaRange]:
    """What a client accepts, the most wanted first. A weight that is malformed counts as 1."""
    weighed = []
    for part in header.split(","):
        media_type, *rest = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in rest)
        parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        weight = parameters.pop("q", "1")
        number = float(weight) if _WEIGHT.fullmatch(weight) else 1.0
        if media_type and number > 0:
            weighed.append((number, MediaRange(media_type.lower(), parameters)))
    return [one for _, one in sorted(weighed, key=lambda pair: -pair[0])]
