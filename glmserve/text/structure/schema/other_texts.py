"""Patterns of all texts apart from a few."""

from __future__ import annotations

from typing import Any

MAX_TEXT = 60
"""Characters of a text: the pattern nests as deep."""

_END = ""
"""The key of a tree's node at which a text ends."""


def other_texts(texts: list[str]) -> str:
    """A pattern of all texts apart from these."""
    return f"^(?:{_others(_tree(texts))})$"


def other_beginnings(texts: list[str]) -> str:
    """A pattern of all texts that do not begin with one of these."""
    return f"^(?:{_others(_tree(texts), beginnings=True)})$"


def _tree(texts: list[str]) -> dict[str, Any]:
    """The texts, character by character."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for char in text:
            node = node.setdefault(char, {})
        node[_END] = {}
    return tree


def _others(node: dict[str, Any], *, beginnings: bool = False) -> str:
    """A regex of what may follow a node instead."""
    following = {char: rf"\u{{{ord(char):x}}}" for char in node if char != _END}
    options = [] if _END in node else [""]
    options.append(f"[^{''.join(following.values())}][^]*")
    for char, code in following.items():
        child = node[char]
        if not (beginnings and _END in child):
            options.append(f"{code}(?:{_others(child, beginnings=beginnings)})")
    return "|".join(options)
