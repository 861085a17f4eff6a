"""Choosing a device by name."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from glmserve.config import LoadProgress, RunnerConfig
from glmserve.contract.step import Runner
from glmserve.devices import registry
from glmserve.devices.base import DeviceInfo
from glmserve.errors import DeviceError, OptionError


class PluginDevice:
    name = "plugin"

    def probe(self) -> DeviceInfo:
        return DeviceInfo(False, "no plugin hardware")

    def create_runner(self, config: RunnerConfig, progress: LoadProgress) -> Runner:
        raise AssertionError("never reached")


def test_built_in_names() -> None:
    assert {"cuda", "cpu", "null"} <= set(registry.device_names())
    for name in ("cuda", "cpu", "null"):
        device = registry.load_device(name)
        assert device.name == name
        assert device.probe().reason


def test_named() -> None:
    assert registry.select_device("cpu").name == "cpu"
    assert registry.select_device("null").name == "null"


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"--device tpu.*auto, cuda, rocm, cpu, null"):
        registry.select_device("tpu")


def test_auto_takes_the_first_available(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = registry.load_device("cuda")
    expected = "cuda" if cuda.probe().available else "cpu"
    assert registry.select_device("auto").name == expected


def test_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("plugin", f"{__name__}:PluginDevice", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group, name=None: [entry] if name in (None, "plugin") else [],
    )
    assert "plugin" in registry.device_names()
    assert registry.load_device("plugin").name == "plugin"
    with pytest.raises(DeviceError, match=r"--device plugin .*no plugin hardware"):
        registry.select_device("plugin")


@pytest.mark.parametrize("module", ["base", "registry", "null"])
def test_without_torch(module: str) -> None:
    code = f"import sys, glmserve.devices.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_packages_of_extras_every_device_says_whether_it_works() -> None:
    """A plain installation has none of them, and asks every device whether it can be used."""
    extras = ("triton", "xformers", "onnx", "onnxruntime", "openvino", "torch_npu", "ray")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras!r})); "
        "from glmserve.devices.registry import device_names, load_device; "
        "print([load_device(name).probe().available for name in device_names()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout
