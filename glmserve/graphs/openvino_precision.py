"""Compares the precision that a graph asks for with what OpenVINO computes in."""

from __future__ import annotations

from collections.abc import Mapping

import openvino

from glmserve.errors import DeviceError

_HINT = "INFERENCE_PRECISION_HINT"
_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def check_precision(
    compiled: openvino.CompiledModel, properties: Mapping[str, object], device: str
) -> None:
    """Check that the device computes in the precision that was asked for, if one was.

    Raises:
        DeviceError: it computes in another one, because the hardware lacks the first.
    """
    if _HINT not in properties:
        return
    found = compiled.get_property(_HINT).to_string()
    wanted = str(properties[_HINT])
    if found != wanted:
        raise DeviceError(
            f"OpenVINO has no {_NAMES[wanted]} on this {device}, and would compute in "
            f"{_NAMES.get(found, found)}; compile the checkpoint with another --dtype"
        )
