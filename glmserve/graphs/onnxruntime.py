"""Executes ONNX graphs by onnxruntime, on one execution provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from glmserve.errors import DeviceError, OptionError
from glmserve.graphs.session import Array

_CPU = "CPUExecutionProvider"


def provider_named(name: str) -> str:
    """The execution provider of a name such as CPU, cuda or CUDAExecutionProvider.

    Raises:
        OptionError: this onnxruntime has none of that name.
    """
    known: list[str] = onnxruntime.get_available_providers()
    for provider in known:
        if name.lower() in (provider.lower(), provider.lower().removesuffix("executionprovider")):
            return provider
    raise OptionError(
        f"--device onnxruntime:{name}: this onnxruntime has no such execution provider; it has "
        f"{', '.join(known)}; other providers come with other builds of the package"
    )


def describe(providers: Sequence[str]) -> str:
    """The runtime and its execution providers, for people."""
    used = providers[:1] if len(set(providers)) == 1 else providers
    return f"onnxruntime {onnxruntime.__version__}, {', '.join(used)}"


class OnnxRuntime:
    """Loads graphs onto an execution provider.

    Args:
        provider: its full name.
        threads: of a step.
    """

    def __init__(self, provider: str, threads: int) -> None:
        self._provider = provider
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3  # errors
        # Threads that spin take the cores from the server's event loop.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Codes without rounded activations become floats once, not in every step.
        self._options.add_session_config_entry("session.disable_quant_qdq", "1")
        if provider != _CPU:
            self._options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")

    def load(self, path: Path) -> _OrtGraph:
        try:
            session = onnxruntime.InferenceSession(path, self._options, providers=[self._provider])
        except Exception as error:  # the package's errors have no common class
            raise DeviceError(
                f"{path}: onnxruntime cannot run it on {self._provider}: {error}"
            ) from None
        if session.get_providers()[0] != self._provider:
            raise DeviceError(
                f"{self._provider} did not start, and onnxruntime would compute on the CPU; see "
                "what it needs besides the package, or choose onnxruntime:CPU"
            )
        return _OrtGraph(session)


class _OrtGraph:
    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> _BoundOrtGraph:
        return _BoundOrtGraph(self._session, inputs, outputs)


class _BoundOrtGraph:
    """Inputs and outputs stay where they are: onnxruntime gets their addresses."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
    ) -> None:
        self._session = session
        self._arrays = [*inputs.values(), *outputs.values()]  # keeps their memory
        self._binding: Any = session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_input(name, *_memory(array))
        for name, array in outputs.items():
            self._binding.bind_output(name, *_memory(array))

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)


def _memory(array: Array) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Arguments of bind_input and bind_output."""
    assert array.flags.c_contiguous
    return "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
