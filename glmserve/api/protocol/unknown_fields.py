"""`--ignore-unknown-fields`: fields that this server does not know are left out, and logged."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

_MOST_NAMES = 100
"""Names that are remembered and logged; clients choose names, so there must be an end."""
_LONGEST_NAME = 100  # characters


class UnknownFields:
    """The names of unknown fields that requests had; each is logged once."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def ignore(self, name: str) -> None:
        """Note that a field is left out of its request."""
        name = name[:_LONGEST_NAME]
        if name in self._names or len(self._names) >= _MOST_NAMES:
            return
        self._names.add(name)
        logger.warning("requests have the unknown field %r, which is ignored", name)
        if len(self._names) == _MOST_NAMES:
            logger.warning("further unknown fields are ignored without a line in the log")
