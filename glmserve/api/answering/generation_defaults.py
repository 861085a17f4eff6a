"""Puts the checkpoint's defaults into requests that do not set these fields."""

from __future__ import annotations

from pydantic import BaseModel

from glmserve.model_config import GenerationDefaults


def apply_defaults(defaults: GenerationDefaults, request: BaseModel) -> None:
    """Set the sampling fields that the request has and does not set."""
    values = dict(defaults.sampling)
    asks_to_sample = "do_sample" in request.model_fields_set and getattr(
        request, "do_sample", False
    )
    if defaults.greedy and not asks_to_sample:
        values["temperature"] = 0.0
    absent = type(request).model_fields.keys() - request.model_fields_set
    for name in values.keys() & absent:
        setattr(request, name, values[name])
