"""Which modules of the page a browser needs before it can draw anything."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

_IMPORT = re.compile(r'^(?:import|export)\b(?:[\s\w{},*]*\sfrom)?\s*"([^"]+)";', re.MULTILINE)
"""A static import or export of another module; import() of a view that is opened later is none."""


def needed_modules(first: str, read: Callable[[str], str]) -> list[str]:
    """A module and all that it imports, directly or by others, in the order in which they are met.

    Args:
        first: the module's name.
        read: the text of a module, by its name.
    """
    names = [first]
    for name in names:  # it grows
        folder = posixpath.dirname(name)
        for path in _IMPORT.findall(read(name)):
            imported = posixpath.normpath(posixpath.join(folder, path))
            if imported not in names:
                names.append(imported)
    return names
