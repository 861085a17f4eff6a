"""Puts the checkpoint's defaults into requests that do not set these fields."""

from __future__ import annotations

from pydantic import BaseModel

from glmserve.model_config import GenerationDefaults


def apply_defaults(defaults: GenerationDefaults, request: BaseModel) -> None:
    """Set the sampling fields that the request has and does not set."""
    values = dict(defaults.sampling)
    if defaults.greedy and not getattr(request, "do_sample", None):
        values["temperature"] = 0.0
    absent = type(request).model_fields.keys() - request.model_fields_set
    for name in values.keys() & absent:
        setattr(request, name, values[name])
