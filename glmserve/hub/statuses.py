"""What the answers of a hub mean to a user."""

from __future__ import annotations


def meaning(status: int, token: str) -> str:
    """Why a hub does not give a file, and what to do about it.

    Args:
        status: of HTTP.
        token: name of the variable with the user's token.
    """
    match status:
        case 401 | 403:
            return f"it is private, or its owner must allow you to read it; set {token}"
        case 404:
            return (
                "there is no such model, revision or file, or it is private; check the name, or "
                f"set {token}"
            )
        case 429:
            return "the hub has had too many requests (HTTP status 429); try again later"
    if status >= 500:
        return f"the hub itself has failed (HTTP status {status}); try again later"
    return f"HTTP status {status}"
