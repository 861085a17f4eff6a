"""Finds device plugins by name: the built-in ones and those of installed packages."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from glmserve.config import GraphTarget, RunnerConfig
from glmserve.devices.base import Device, DeviceInfo
from glmserve.errors import DeviceError, OptionError
from glmserve.graphs.manifest import is_compiled, read_manifest
from glmserve.graphs.vendor.build import VENDOR_RUNTIMES, refusal_to_serve

ENTRY_POINT_GROUP = "glmserve.devices"

_BUILT_IN = {
    "cuda": "glmserve.devices.cuda:CudaDevice",
    "rocm": "glmserve.devices.cuda:RocmDevice",
    "cpu": "glmserve.devices.cpu:CpuDevice",
    "null": "glmserve.devices.null:NullDevice",
    "ascend": "glmserve.devices.ascend:AscendDevice",
    "onnxruntime": "glmserve.devices.onnxruntime:OnnxRuntimeDevice",
    "openvino": "glmserve.devices.openvino:OpenVinoDevice",
    "vacc": "glmserve.devices.vendor:VaccDevice",
    "compass": "glmserve.devices.vendor:CompassDevice",
}
_AUTO_ORDER = ("cuda", "rocm", "ascend", "cpu")

_BY_RUNTIME: dict[GraphTarget, str] = {
    "onnx": "onnxruntime",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
"""The device for folders that were compiled for a runtime; glmserve drives no vendor's."""
_WITH_PLACE = frozenset(_BY_RUNTIME.values())
"""Devices that `:PLACE` may follow, a device or execution provider of their runtime."""


def device_names() -> list[str]:
    """All names that --device accepts besides auto."""
    plugins = [entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)]
    return [*_BUILT_IN, *sorted(set(plugins) - _BUILT_IN.keys())]


def device_for(config: RunnerConfig) -> Device:
    """The device of a worker's options. With `auto`, a compiled folder decides.

    Raises:
        CheckpointError: the folder's manifest is damaged.
        OptionError: no device has this name, or it does not serve compiled folders.
        DeviceError: it cannot be used on this machine; the message has the reason.
    """
    folder = Path(config.checkpoint)
    if not is_compiled(folder):
        return select_device(config.device)
    manifest = read_manifest(folder)
    runtime = manifest.runtime
    if runtime in VENDOR_RUNTIMES:
        raise OptionError(refusal_to_serve(folder, manifest))
    if config.device == "auto":
        return select_device(_BY_RUNTIME[runtime])
    if config.device.partition(":")[0] not in {*_WITH_PLACE, "null"}:
        raise OptionError(
            f"--device {config.device}: {folder} was compiled for {runtime}; leave --device out, "
            "or serve the checkpoint that was compiled"
        )
    return select_device(config.device)


def select_device(name: str) -> Device:
    """The device of this name, or for "auto" the first that can be used.

    Raises:
        OptionError: no device has this name.
        DeviceError: it cannot be used on this machine; the message has the reason.
    """
    if name == "auto":
        return _first_available()
    device = load_device(name)
    info = probe(device)
    if not info.available:
        raise DeviceError(f"--device {name} cannot be used here: {info.reason}")
    return device


def probe(device: Device) -> DeviceInfo:
    """Whether the device can be used. If its own check fails, it cannot."""
    try:
        return device.probe()
    except Exception as error:  # code of a plugin
        return DeviceInfo(False, f"asking it failed: {type(error).__name__}: {error}")


def load_device(name: str) -> Device:
    """The plugin of this name, whether or not it can be used. The name may have a place.

    Raises:
        OptionError: no device has this name.
        DeviceError: its package cannot be imported.
    """
    base, colon, place = name.partition(":")
    if base in _WITH_PLACE and bool(colon) == bool(place):
        name = base
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        device: Device = getattr(import_module(module), attribute)()
        return device
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return _load_plugin(entry)
    raise OptionError(f"--device {name}: unknown; known: auto, {', '.join(device_names())}")


def _load_plugin(entry: EntryPoint) -> Device:
    try:
        plugin: Device = entry.load()()
    except Exception as error:  # code of a plugin
        raise DeviceError(
            f"--device {entry.name}: its plugin {entry.value} cannot be loaded: "
            f"{type(error).__name__}: {error}; repair that package, or choose another device"
        ) from error
    return plugin


def _first_available() -> Device:
    reasons = []
    for name in _AUTO_ORDER:
        device = load_device(name)
        info = probe(device)
        if info.available:
            return device
        reasons.append(f"{name}: {info.reason}")
    raise DeviceError(f"no device can be used here: {'; '.join(reasons)}")
