"""What requests that begin alike have in common, so that one replica computes it once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

START = 256
"""Characters, or tokens, of a text that count. What follows may differ."""
_SYSTEM = ("system", "developer")


def session_of(headers: Mapping[str, str], body: bytes) -> str:
    """The session of a request: requests of one session go to one replica.

    It is the client's own `x-session-id` or `prompt_cache_key`. Without these, it is the start of
    the instructions and of the first message, which stay the same in all turns of a conversation.

    Returns:
        A digest, or "" if any replica may answer, and no one has more of it cached than another.
    """
    text = headers.get("x-session-id") or _common_text(body)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


def _common_text(body: bytes) -> str:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return ""  # the server says what is wrong
    if not isinstance(fields, dict):
        return ""
    if isinstance(key := fields.get("prompt_cache_key"), str):
        return key
    starts = [_start(fields.get(name)) for name in ("system", "instructions", "prompt")]
    for name in ("messages", "input"):
        starts += _opening(fields.get(name))
    return "\n".join(starts).strip()


def _opening(messages: Any) -> list[str]:
    """Starts of a conversation's messages, to its first one that is no instruction."""
    if not isinstance(messages, list):
        return [_start(messages)]
    starts = []
    for message in messages:
        starts.append(_start(message))
        if not isinstance(message, dict) or message.get("role") not in _SYSTEM:
            break
    return starts


def _start(value: Any) -> str:
    if isinstance(value, dict) and "content" in value:
        value = value["content"]
    text = value if isinstance(value, str) else json.dumps(value) if value else ""
    return text[:START]
