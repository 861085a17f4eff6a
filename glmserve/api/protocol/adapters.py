"""Requests of operators about adapters: /admin/adapters, and vLLM's routes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from glmserve.api.protocol.accepted.adapters import LOAD_LORA_ADAPTER
from glmserve.api.protocol.base import StrictModel


class AddAdapterRequest(StrictModel):
    """POST /admin/adapters"""

    name: str = Field(min_length=1, description="By which requests choose it, as their model.")
    path: str = Field(
        min_length=1,
        description="Its folder on the server; a relative path begins at --adapter-dir, or else at "
        "the server's current folder.",
    )


class LoadLoraAdapterRequest(StrictModel):
    """POST /v1/load_lora_adapter"""

    accepted: ClassVar = LOAD_LORA_ADAPTER

    lora_name: str = Field(min_length=1, description="See the name in /admin/adapters.")
    lora_path: str = Field(min_length=1, description="See the path in /admin/adapters.")
    load_inplace: bool = Field(
        False, description="true: the name may have been given; it gets the new content."
    )


class UnloadLoraAdapterRequest(StrictModel):
    """POST /v1/unload_lora_adapter"""

    lora_name: str = Field(min_length=1)
    lora_int_id: int | None = Field(None, description="Refused if the name has another id now.")
