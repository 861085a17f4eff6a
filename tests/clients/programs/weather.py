"""The structured answer of the programs whose clients take pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Weather(BaseModel):
    """The weather of a place: no other keys, because the tiny model would not stop adding them."""

    model_config = ConfigDict(extra="forbid")

    sky: Literal["clear", "grey"]
    degrees: Annotated[int, Field(ge=-20, le=40)]
