"""The ascend device without an NPU: what it says, what it refuses, and what it sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import NpuEnvironment, RunnerConfig, report_nothing
from glmserve.contract.shard import Group, Shard
from glmserve.devices import npu_topology, torch_npu
from glmserve.devices.ascend import AscendDevice
from glmserve.devices.npu_environment import prepare_process, visible_npu
from glmserve.devices.registry import load_device, select_device
from glmserve.errors import DeviceError, OptionError, StartupError
from glmserve.model_config import read_model_config
from glmserve.ops.ascend.chip import chip_named
from glmserve.ops.attention.npu import AtbAttention, IncreAttention, NpuAttention
from glmserve.ops.attention.npu_int8 import NpuInt8Attention
from glmserve.ops.attention.sdpa import SdpaAttention
from support.ascend_simulator.device import SimulatedAscend, SimulatedDriver


class TestProbe:
    """Every reason, in the order in which they are looked for."""

    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A machine on which everything is there; the folder stands for /dev."""
        monkeypatch.setattr(torch_npu, "find_spec", lambda name: object())
        same = ".".join(torch.__version__.split(".")[:2]) + ".9"
        monkeypatch.setattr(torch_npu, "version", lambda name: same)
        monkeypatch.setattr(torch_npu, "_DEVICES", tmp_path)
        monkeypatch.setattr(torch_npu, "_RUNTIME", "libc.so.6")
        for name in ("davinci0", "davinci1", "davinci_manager"):
            (tmp_path / name).touch()
        return tmp_path

    def reason(self) -> str:
        info = AscendDevice().probe()
        assert not info.available
        return info.reason

    def test_without_the_package(self) -> None:
        assert "pip install 'glmserve[ascend]'" in self.reason()
        with pytest.raises(DeviceError, match="--device ascend cannot be used here: the torch_npu"):
            select_device("ascend")

    def test_another_version(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch_npu, "version", lambda name: "2.1.0")
        assert "torch_npu 2.1.0 is for torch 2.1, and this is torch 2." in self.reason()

    def test_no_npu(self, installed: Path) -> None:
        for node in installed.glob("davinci[0-9]"):
            node.unlink()
        assert "/dev/davinci0 is missing" in self.reason()

    def test_no_runtime(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch_npu, "_RUNTIME", "libnone.so")
        assert "source its set_env.sh" in self.reason()

    def test_everything(self, installed: Path) -> None:
        info = AscendDevice().probe()
        assert info.available
        assert info.reason.startswith("2 NPUs, torch_npu 2.")

    def test_a_driver_that_fails_when_it_is_opened(
        self, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "torch_npu.py"
        package.write_text("raise ImportError('libhccl.so: cannot open shared object file')")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert load_device("ascend").probe().available
        with pytest.raises(DeviceError, match=r"libhccl\.so.*npu-smi info"):
            torch_npu.TorchNpu().open(0)


class OlderDriver(SimulatedDriver):
    """Of the 310 family."""

    def open(self, place: int) -> str:
        super().open(place)
        return "Ascend310P3"


def options(folder: Path, **changed: Any) -> RunnerConfig:
    return RunnerConfig(checkpoint=str(folder), **changed)


def target(
    config: RunnerConfig, driver: SimulatedDriver | None = None, simulated: bool = False
) -> Any:
    """How the device computes a model, on a real chip unless `simulated`."""
    device = SimulatedAscend() if simulated else AscendDevice(driver or SimulatedDriver())
    model = read_model_config(Path(config.checkpoint))
    return device._target(config, model, device._open(config))


@pytest.fixture
def glm2(golden_models: Path) -> Path:
    return golden_models / "glm2_base"


class TestChoices:
    def test_dtype(self, glm2: Path, golden_models: Path) -> None:
        assert target(options(glm2)).dtype == torch.float16
        assert target(options(golden_models / "glm4_base")).dtype == torch.bfloat16
        assert target(options(golden_models / "glm4_base"), OlderDriver()).dtype == torch.float16
        for dtype, driver in (("float32", SimulatedDriver()), ("bfloat16", OlderDriver())):
            with pytest.raises(OptionError, match=f"--dtype {dtype}: Ascend.* computes in float16"):
                target(options(glm2, dtype=dtype), driver)

    def test_attention(self, glm2: Path, golden_models: Path) -> None:
        def backend(config: RunnerConfig, driver: SimulatedDriver | None = None) -> type:
            return type(target(config, driver).ops.attention)

        tiny = Path(EMBEDDED)
        assert backend(options(glm2)) is NpuAttention
        assert backend(options(glm2, attention_backend="atb")) is AtbAttention
        assert backend(options(glm2, attention_backend="incre")) is IncreAttention
        assert backend(options(tiny, kv_cache_dtype="int8")) is NpuInt8Attention
        assert backend(options(glm2, kv_cache_dtype="int8")) is SdpaAttention  # heads of 16
        assert backend(options(glm2, block_size=16)) is SdpaAttention
        assert backend(options(glm2), OlderDriver()) is SdpaAttention
        assert backend(options(golden_models / "glm1_base")) is SdpaAttention

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"attention_backend": "npu", "block_size": 16}, "128, 256, 384 or 512; this is 16"),
            ({"attention_backend": "npu", "kv_cache_dtype": "int8"}, "no multiple of 32"),
            (
                {"attention_backend": "triton"},
                "which have npu, incre, atb and sdpa",
            ),
            ({"deterministic": True}, "order of sums"),
            ({"cpu_kernels": "native"}, "is for the cpu device"),
            ({"quantization": "w4a8"}, "w8a8, int8 and int4 work here"),
            ({"kv_cache_dtype": "fp8"}, "int8 takes as little memory"),
        ],
    )
    def test_what_is_refused(self, glm2: Path, changed: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            target(options(glm2, **changed))

    @pytest.mark.parametrize("name", ["atb", "incre"])
    def test_only_npu_reads_int8(self, name: str) -> None:
        config = options(Path(EMBEDDED), attention_backend=name, kv_cache_dtype="int8")
        with pytest.raises(OptionError, match="take npu"):
            target(config)

    def test_the_older_family(self, glm2: Path) -> None:
        with pytest.raises(OptionError, match="Ascend310P3 does not round activations"):
            target(options(glm2, quantization="w8a8"), OlderDriver())
        with pytest.raises(OptionError, match="Atlas A2 and A3 do"):
            target(options(glm2, attention_backend="npu"), OlderDriver())

    def test_other_devices_do_not_know_its_attention(self, glm2: Path) -> None:
        with pytest.raises(OptionError, match="it needs an Ascend NPU"):
            load_device("cpu").create_runner(options(glm2, attention_backend="npu"), report_nothing)

    def test_each_rank_has_an_npu(self, glm2: Path) -> None:
        config = options(glm2, tensor_parallel_size=8)
        with pytest.raises(OptionError, match="8 ranks needs an NPU, and this machine has 4"):
            target(config)
        few = NpuEnvironment(visible_devices="3")
        group = Group(Shard(1, 2), "x", local=Shard(1, 2))
        assert visible_npu(few, 0) == 3
        with pytest.raises(OptionError, match="2 ranks need as many NPUs"):
            SimulatedAscend().create_runner(
                options(glm2, tensor_parallel_size=2, npu=few, group=group), report_nothing
            )

    def test_chips(self) -> None:
        assert chip_named("Ascend910B4-1").has_fused_calls
        assert chip_named("Ascend910_9392").has_fused_calls
        for name in ("Ascend310P3", "Ascend910A", "Ascend999"):
            assert not chip_named(name).has_fused_calls
            assert chip_named(name).dtypes == {torch.float16}


def test_memory(glm2: Path) -> None:
    needs = SimulatedAscend().memory_needs(options(glm2), read_model_config(glm2))
    assert needs.available == 2**32
    assert needs.cache.block_size == 128
    half = options(glm2, gpu_memory_utilization=0.5)
    assert SimulatedAscend().memory_needs(half, read_model_config(glm2)).available == 2**31
    with pytest.raises(StartupError, match="not enough memory"):
        config = options(glm2, kv_cache_tokens=2**28)
        SimulatedAscend().create_runner(config, report_nothing)


class TestEnvironment:
    def test_settings_that_are_in_effect(self, glm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(npu_topology, "_TOOL", "no-such-tool")
        assert AscendDevice().settings(options(glm2)) == {
            "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
            "TASK_QUEUE_ENABLE": "1",
            "BIND_CPU": "1: the NPU's node is not known",
        }
        given = NpuEnvironment(
            visible_devices="3,4", bind_cpu="0", allocator="max_split_size_mb:32", task_queue="2"
        )
        assert AscendDevice().settings(options(glm2, npu=given)) == {
            "PYTORCH_NPU_ALLOC_CONF": "max_split_size_mb:32",
            "TASK_QUEUE_ENABLE": "2",
            "BIND_CPU": "0",
            "ASCEND_RT_VISIBLE_DEVICES": "3,4",
        }

    @pytest.mark.parametrize(
        "given", [NpuEnvironment(visible_devices=""), NpuEnvironment(visible_devices="a")]
    )
    def test_no_npu_is_visible(self, glm2: Path, given: NpuEnvironment) -> None:
        with pytest.raises(OptionError, match=r"ASCEND_RT_VISIBLE_DEVICES=.*expected numbers"):
            SimulatedAscend().create_runner(options(glm2, npu=given), report_nothing)

    def test_a_word_for_binding(self, glm2: Path) -> None:
        with pytest.raises(OptionError, match="BIND_CPU=yes: expected 0 or 1"):
            given = NpuEnvironment(bind_cpu="yes")
            SimulatedAscend().create_runner(options(glm2, npu=given), report_nothing)

    def test_what_the_process_gets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PYTORCH_NPU_ALLOC_CONF", "TASK_QUEUE_ENABLE"):
            monkeypatch.setenv(name, "before")
        prepare_process(NpuEnvironment(task_queue="2"))
        assert os.environ["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:True"
        assert os.environ["TASK_QUEUE_ENABLE"] == "2"


MAP = """\
        NPU ID                         Chip ID                        Chip Logic ID   Chip Name
        4                              0                              0               Ascend 910B3
        4                              1                              -               Mcu
        6                              0                              1               Ascend 910B3
"""
BOARD = """\
        NPU ID                         : {0}
        PCIe Bus Info                  : 0000:C{0}:00.0
"""


class TestTopology:
    @pytest.fixture
    def tool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An npu-smi of a machine with two NPUs."""
        path = tmp_path / "npu-smi"
        (tmp_path / "map").write_text(MAP)
        for card in ("4", "6"):
            (tmp_path / f"board{card}").write_text(BOARD.format(card))
        path.write_text(
            f'#!/bin/sh\n[ "$2" = -m ] && exec cat {tmp_path}/map\nexec cat {tmp_path}/board$5\n'
        )
        path.chmod(0o755)
        monkeypatch.setattr(npu_topology, "_TOOL", str(path))

    @pytest.fixture
    def system(self, tmp_path: Path) -> Path:
        """Its /sys, with two nodes; CPUs beyond those of this machine are there as well."""
        folder = tmp_path / "sys"
        for card, node, cpus in (("4", 0, "900-910"), ("6", 1, "0-700,800")):
            device = folder / f"bus/pci/devices/0000:c{card}:00.0"
            device.mkdir(parents=True)
            (device / "numa_node").write_text(f"{node}\n")
            place = folder / f"devices/system/node/node{node}"
            place.mkdir(parents=True)
            (place / "cpulist").write_text(f"{cpus}\n")
        return folder

    def test_the_node_of_an_npu(self, tool: None, system: Path) -> None:
        node = npu_topology.node_of(1, system)
        assert node is not None
        assert node.number == 1
        assert node.cpus == os.sched_getaffinity(0)

    def test_a_node_whose_cpus_are_not_ours(self, tool: None, system: Path) -> None:
        assert npu_topology.node_of(0, system) is None

    def test_what_is_not_known(self, tool: None, system: Path) -> None:
        assert npu_topology.node_of(7, system) is None
        (system / "bus/pci/devices/0000:c6:00.0/numa_node").write_text("-1")
        assert npu_topology.node_of(1, system) is None

    def test_no_tool(self, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(npu_topology, "_TOOL", "no-such-tool")
        assert npu_topology.node_of(1, system) is None

    def test_the_worker_keeps_to_it(
        self, tool: None, system: Path, glm2: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bound: list[object] = []
        monkeypatch.setattr(npu_topology, "run_on", lambda cpus, node: bound.append(cpus))
        monkeypatch.setattr(npu_topology.node_of, "__defaults__", (system,))
        device = SimulatedAscend()
        small = {"kv_cache_tokens": 256}
        second = NpuEnvironment(visible_devices="1")
        runner = device.create_runner(options(glm2, npu=second, **small), report_nothing)
        assert bound == [frozenset(os.sched_getaffinity(0))]
        assert "Ascend910B3, NUMA node 1, " in runner.info.device
        free = NpuEnvironment(visible_devices="1", bind_cpu="0")
        device.create_runner(options(glm2, npu=free, **small), report_nothing)
        assert len(bound) == 1


EMBEDDED = Path(__file__).parents[2] / "glmserve" / "assets" / "glm-tiny"
