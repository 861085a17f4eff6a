"""Parts of a request that could be of many types, of which we know one."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator

from glmserve.api.protocol.base import wrong_field


def only_type(known: str) -> BeforeValidator:
    """Refuse other types by name, before anything is said about their fields."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and value.get("type", known) != known:
            raise wrong_field("type", f"must be {known!r}; this server knows no other")
        return value

    return BeforeValidator(check)
