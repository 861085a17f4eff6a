"""Writes data as YAML: nested mappings, and values as JSON, which YAML reads as well."""

from __future__ import annotations

import json
from collections.abc import Mapping


def as_yaml(data: Mapping[str, object], indent: str = "") -> str:
    """The text of a mapping.

    Args:
        indent: spaces before each line.
    """
    lines = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name}:\n{as_yaml(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)
