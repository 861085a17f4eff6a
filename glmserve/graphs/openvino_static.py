"""Executes static ONNX graphs by OpenVINO, on any of its devices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import openvino

from glmserve.errors import DeviceError
from glmserve.graphs.openvino_precision import check_precision
from glmserve.graphs.session import Array


class OpenVinoRuntime:
    """Loads graphs onto a device.

    Args:
        core: of OpenVINO.
        device: OpenVINO's name of the device.
        properties: of the compiled graphs.
    """

    def __init__(self, core: openvino.Core, device: str, properties: Mapping[str, object]) -> None:
        self._core = core
        self._device = device
        self._properties = dict(properties)

    def load(self, path: Path) -> _OpenVinoGraph:
        try:
            compiled = self._core.compile_model(path, self._device, self._properties)
        except RuntimeError as error:
            raise DeviceError(
                f"{path}: OpenVINO cannot run it on {self._device}: {error}"
            ) from None
        check_precision(compiled, self._properties, self._device)
        return _OpenVinoGraph(compiled)


class _OpenVinoGraph:
    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> _BoundOpenVinoGraph:
        request = self._compiled.create_infer_request()
        for name, array in (*inputs.items(), *outputs.items()):
            port = request.get_tensor(name)
            shape = openvino.Shape(list(array.shape))
            request.set_tensor(name, openvino.Tensor(array, shape, port.get_element_type()))
        return _BoundOpenVinoGraph(request)


class _BoundOpenVinoGraph:
    """Inputs and outputs stay where they are: OpenVINO gets their memory."""

    def __init__(self, request: openvino.InferRequest) -> None:
        self._request = request

    def run(self) -> None:
        self._request.infer()
