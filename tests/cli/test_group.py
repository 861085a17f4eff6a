"""Which machines a command line means."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from glmserve.cli.group import group as group_module
from glmserve.cli.group.group import read_group
from glmserve.cli.group.key import read_group_key
from glmserve.cli.group.layout import read_layout
from glmserve.cli.group.start import machines_of, run_member, run_until_signal
from glmserve.cli.main import build_parser
from glmserve.config import EMBEDDED_CHECKPOINT, RunnerConfig
from glmserve.contract.shard import Shard
from glmserve.errors import CheckpointError, OptionError
from glmserve.machines.layout import Layout, is_loopback
from glmserve.process.service_manager import ServiceManager

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "host-a", "MASTER_PORT": "1000"}
LWS = {"LWS_LEADER_ADDRESS": "pod-0.lws", "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "1"}


def layout(line: str, size: int, environment: dict[str, str]) -> Layout | None:
    options = build_parser().parse_args(["serve", *line.split()])
    return read_layout(options, size, environment)


@pytest.mark.parametrize(
    ("line", "size", "environment"),
    [
        ("", 1, {}),
        ("", 4, {}),
        ("", 1, TORCHRUN),
        ("", 1, LWS),
        ("", 1, {"WORLD_SIZE": "many"}),
        ("", 4, {"RANK": "3"}),
        ("", 4, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "host-a"}),
        ("", 4, {**LWS, "LWS_GROUP_SIZE": "1"}),
        ("--executor local", 4, {**TORCHRUN, **LWS}),
        ("--executor ray", 4, {**TORCHRUN, **LWS}),
        ("--num-machines 1 --machine-rank 0", 4, {}),
    ],
)
def test_all_ranks_are_on_this_machine(line: str, size: int, environment: dict[str, str]) -> None:
    assert layout(line, size, environment) is None


@pytest.mark.parametrize(
    ("line", "size", "environment", "expected"),
    [
        (
            "--num-machines 2 --machine-rank 1 --leader host-a:99",
            4,
            TORCHRUN,
            (2, 1, "host-a", 99, (Shard(0, 2), Shard(1, 2)), "machine", True),
        ),
        (
            "--nnodes=2 --node-rank=0 --dist-init-addr=[fe80::1%eth0]:99",
            2,
            {},
            (2, 0, "fe80::1%eth0", 99, (Shard(0, 1),), "machine", True),
        ),
        ("", 4, TORCHRUN, (4, 1, "host-a", 1001, (Shard(0, 1),), "process", False)),
        (
            "--executor torchrun --leader b:7",
            8,
            {**TORCHRUN, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", **LWS},
            (4, 1, "b", 7, (Shard(2, 4), Shard(3, 4)), "process", False),
        ),
        (
            "",
            4,
            {**TORCHRUN, "MASTER_PORT": ""},
            (4, 1, "host-a", 29501, (Shard(),), "process", False),
        ),
        ("", 2, LWS, (2, 1, "pod-0.lws", 29600, (Shard(),), "machine", True)),
        (
            "--executor lws",
            4,
            {**TORCHRUN, **LWS},
            (2, 1, "pod-0.lws", 29600, (Shard(0, 2), Shard(1, 2)), "machine", True),
        ),
    ],
)
def test_several_machines(
    line: str, size: int, environment: dict[str, str], expected: tuple[Any, ...]
) -> None:
    found = layout(line, size, environment)
    assert found is not None
    assert (
        *(found.count, found.number, found.host, found.port),
        *(found.places, found.noun, found.stays),
    ) == expected


@pytest.mark.parametrize(
    ("line", "size", "environment", "message"),
    [
        ("--num-machines 2", 2, {}, "--num-machines 2 needs --machine-rank"),
        ("--num-machines 2 --machine-rank 1", 2, {}, "and --leader HOST:PORT"),
        ("--num-machines 2 --machine-rank 2 --leader a:1", 2, {}, "numbered from 0 to 1"),
        ("--num-machines 3 --machine-rank 2 --leader a:1", 4, {}, "3 must divide the number of"),
        ("--num-machines 2 --machine-rank 1 --leader a:1", 1, {}, "2 must divide the number of"),
        ("--num-machines 2 --executor local", 2, {}, "contradict each other"),
        ("--num-machines 2 --executor torchrun", 2, TORCHRUN, "contradict each other"),
        ("--machine-rank 1", 2, {}, "give --num-machines as well"),
        ("--leader a:1", 2, {}, "give --num-machines as well"),
        ("--leader a:1 --executor local", 2, {}, "--leader and --executor local contradict"),
        ("", 4, {**TORCHRUN, "MASTER_ADDR": ""}, "^MASTER_ADDR is not set, .* RANK and WORLD_SIZE"),
        ("", 4, {**TORCHRUN, "RANK": "4"}, "RANK=4 is not below 4"),
        ("", 4, {**TORCHRUN, "WORLD_SIZE": "-2"}, "WORLD_SIZE=-2 is no number"),
        ("", 4, {**TORCHRUN, "MASTER_PORT": "65535"}, "MASTER_PORT=65535: the next .* --leader"),
        ("", 4, {**TORCHRUN, "MASTER_PORT": "70000"}, "65535 is the largest"),
        ("", 4, {**TORCHRUN, "LOCAL_RANK": "1"}, "LOCAL_RANK=1 is not below 1"),
        ("", 2, TORCHRUN, "^WORLD_SIZE 4 must divide the number of ranks, which is 2"),
        ("--executor torchrun", 1, TORCHRUN, "WORLD_SIZE 4 must divide"),
        ("--executor torchrun", 4, {}, "RANK and WORLD_SIZE and MASTER_ADDR are not set"),
        ("--executor lws", 4, TORCHRUN, "LWS_LEADER_ADDRESS and LWS_GROUP_SIZE and LWS_W"),
        ("", 4, {**LWS, "LWS_GROUP_SIZE": "3"}, "LWS_GROUP_SIZE 3 must divide"),
    ],
)
def test_what_is_refused(line: str, size: int, environment: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        layout(line, size, environment)


@pytest.mark.parametrize("address", ["host", ":1", "host:", "host:0", "host:65536", "a:b:1", "::1"])
def test_what_is_no_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        layout(f"--leader {address}", 1, {})
    assert f"'{address}' is no address; write it like host-a:29600" in capsys.readouterr().err


def test_a_key_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    file.write_text("  0123456789abcdef\n")
    file.chmod(0o600)
    other = {"GLMSERVE_GROUP_KEY": "another one, and as long"}
    assert read_group_key(file, other, on_loopback=True) == b"0123456789abcdef"
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    assert read_group_key(file, {}, on_loopback=True) == b"0123456789abcdef"
    assert "every user of this machine can read" in capsys.readouterr().err
    assert read_group_key(None, other, on_loopback=False) == b"another one, and as long"


@pytest.mark.parametrize("text", [None, "", "short", " " * 20 + "short"])
def test_keys_that_are_refused(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
    with pytest.raises(OptionError, match=r"--group-key-file .*: (no such file|the key must have)"):
        read_group_key(file, {}, on_loopback=True)


def test_only_one_machine_does_without_a_key() -> None:
    line = "--num-machines 2 --machine-rank 1 --leader"
    runner = RunnerConfig(checkpoint="", tensor_parallel_size=2)
    for host in ("127.0.0.1", "localhost"):
        options = build_parser().parse_args(["serve", *line.split(), f"{host}:1"])
        group = read_group(options, runner, {})
        assert group is not None
        assert (group.key, group.on_loopback) == (b"", True)
    options = build_parser().parse_args(["serve", *line.split(), "192.0.2.1:1"])
    with pytest.raises(OptionError, match="openssl rand -hex 32"):
        read_group(options, runner, {})


async def test_a_member_gives_signs_of_life(tmp_path: Path) -> None:
    class Member:
        async def run(self) -> None:
            for _ in range(2):
                sign = await asyncio.get_running_loop().sock_recv(listening, 100)
                assert sign == b"WATCHDOG=1"

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind(str(tmp_path / "notify"))
        manager = ServiceManager(str(tmp_path / "notify"), watchdog=0.04)
        await run_until_signal(Member(), manager)  # type: ignore[arg-type]


def test_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = f"--num-machines 2 --machine-rank 0 --leader {address}"
        options = build_parser().parse_args(["serve", *line.split()])
        runner = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), tensor_parallel_size=2)
        group = read_group(options, runner, {})
        assert group is not None
        with pytest.raises(OptionError, match=r"address already in use; give another one by --lea"):
            machines_of("auto", group, runner, 10)


def test_a_member_without_the_checkpoint() -> None:
    line = "--num-machines 2 --machine-rank 1 --leader 127.0.0.1:1"
    options = build_parser().parse_args(["serve", *line.split()])
    runner = RunnerConfig(checkpoint="/missing", tensor_parallel_size=2)
    group = read_group(options, runner, {})
    assert group is not None
    with pytest.raises(CheckpointError, match=r"^/missing: no such file or folder"):
        run_member(group, runner)


@pytest.mark.parametrize(
    ("line", "size", "machines"),
    [
        ("--num-machines 2 --machine-rank 1 --leader localhost:1", 4, 2),
        ("--executor lws --leader localhost:1", 8, 2),
        ("--executor torchrun --leader localhost:1", 4, 2),
    ],
)
def test_the_doctor_plans_for_the_ranks_of_one_machine(line: str, size: int, machines: int) -> None:
    options = build_parser().parse_args(["doctor", *line.split()])
    runner = RunnerConfig(checkpoint="", tensor_parallel_size=size)
    group = read_group(
        options, runner, {**TORCHRUN, **LWS, "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    )
    assert group is not None
    assert group.planned(runner).num_machines == machines


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    options = build_parser().parse_args(["serve", "--executor", "ray"])
    monkeypatch.setattr(group_module, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'glmserve\[ray\]'"):
        read_group(options, RunnerConfig(checkpoint=""), {})


def test_ray_chooses_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    options = build_parser().parse_args(["serve", "--executor", "ray"])
    monkeypatch.setattr(group_module, "find_spec", lambda name: name)
    with pytest.raises(OptionError, match="--threads says how many CPUs each rank reserves"):
        read_group(options, RunnerConfig(checkpoint="", cpus=(0,)), {})


def test_an_unknown_name_is_another_machine() -> None:
    assert not is_loopback("host.invalid")
