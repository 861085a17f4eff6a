"""systemd's protocol: what the server says to a service manager, and the socket it inherits."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glmserve.cli import service_status
from glmserve.cli.service_status import ServiceStatus
from glmserve.config import LoadProgress, SupervisionConfig
from glmserve.engine import EngineState
from glmserve.errors import OptionError
from glmserve.process import service_manager
from glmserve.process.service_manager import ServiceManager, take_listener


class Manager:
    """A service manager's socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def heard(self) -> list[dict[str, str]]:
        """The messages since the last call."""
        messages = []
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return messages
            messages.append(dict(line.split("=", 1) for line in text.splitlines()))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_the_variables_are_taken(manager: Manager) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.path,
        "WATCHDOG_USEC": "2500000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    taken = ServiceManager.take_from(environment)
    assert environment == {"HOME": "/"}
    assert taken.listens
    assert taken.watchdog == 2.5
    taken.tell(READY=1, STATUS="serving")
    assert manager.heard() == [{"READY": "1", "STATUS": "serving"}]


def test_another_process_is_watched(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert ServiceManager.take_from(environment).watchdog is None


def test_without_a_service_manager_nothing_is_sent() -> None:
    alone = ServiceManager.take_from({})
    assert not alone.listens
    alone.tell(READY=1)


def test_a_service_manager_that_is_gone_harms_nothing(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "gone")).tell(READY=1)


def test_a_socket_in_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0glmserve-{os.getpid()}")
        ServiceManager(f"@glmserve-{os.getpid()}").tell(READY=1)
        assert receiver.recv(100) == b"READY=1"


def test_a_wrong_watchdog_is_refused(manager: Manager) -> None:
    with pytest.raises(OptionError, match="WATCHDOG_USEC=soon"):
        ServiceManager.take_from({"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "soon"})


class FakeEngine(SimpleNamespace):
    """What ServiceStatus reads of an engine."""

    def __init__(self) -> None:
        super().__init__(
            state=EngineState.LOADING,
            is_busy=False,
            is_draining=False,
            loss="",
            missing_machine="",
            stats=SimpleNamespace(num_steps=0),
        )


def status_of(manager: Manager, engine: Any, watchdog: float | None = None) -> ServiceStatus:
    return ServiceStatus(
        ServiceManager(manager.path, watchdog), engine, "chatglm", SupervisionConfig(load_timeout=7)
    )


def test_states_from_loading_to_the_end(manager: Manager) -> None:
    status = status_of(manager, FakeEngine())
    status.loading(LoadProgress("weights", 1, 4))
    status.loading(LoadProgress("weights", 2, 4))  # within the same second
    status.ready()
    status.stopping(30)
    assert manager.heard() == [
        {"EXTEND_TIMEOUT_USEC": "17000000", "STATUS": "loading: weights, 25%"},
        {"READY": "1", "STATUS": "serving chatglm"},
        {
            "EXTEND_TIMEOUT_USEC": "40000000",
            "STOPPING": "1",
            "STATUS": "draining for at most 30 s",
        },
    ]


async def watched(
    manager: Manager, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, *changes: dict[str, Any]
) -> list[list[dict[str, str]]]:
    """What is heard after each change of the engine."""
    turns = asyncio.Queue[None]()
    looked = asyncio.Queue[None]()

    async def sleep(seconds: float) -> None:
        looked.put_nowait(None)
        await turns.get()

    monkeypatch.setattr(service_status.asyncio, "sleep", sleep)
    status = status_of(manager, engine, watchdog=4)
    task = asyncio.create_task(status.watch())
    await looked.get()
    heard = [manager.heard()]
    for change in changes:
        steps = change.pop("steps", None)
        if steps is not None:
            engine.stats.num_steps = steps
        vars(engine).update(change)
        turns.put_nowait(None)
        await looked.get()
        heard.append(manager.heard())
    task.cancel()
    return heard


ALIVE = {"WATCHDOG": "1"}


async def test_signs_of_life_follow_the_steps(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = await watched(
        manager,
        FakeEngine(),
        monkeypatch,
        {"state": EngineState.READY},  # nothing to do
        {"is_busy": True, "steps": 1},
        {},  # no step was done
        {"steps": 2},
        {"state": EngineState.RESTARTING, "loss": "was killed by SIGKILL"},
        {},
        {"state": EngineState.READY, "steps": 3},
    )
    serving = {"STATUS": "serving chatglm"}
    replacing = {"STATUS": "replacing the worker, which was killed by SIGKILL"}
    assert heard == [
        [ALIVE],
        [ALIVE, serving],
        [ALIVE],
        [],
        [ALIVE],
        [ALIVE, replacing],
        [ALIVE],
        [ALIVE, serving],
    ]


async def test_a_machine_that_is_missing(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first start the wait must not end by TimeoutStartSec."""
    heard = await watched(
        manager,
        FakeEngine(),
        monkeypatch,
        {"missing_machine": "machine 1 has not connected yet"},
        {},
        {"missing_machine": "", "state": EngineState.READY},
        {"missing_machine": "machine 1 is gone", "state": EngineState.RESTARTING},
    )
    more_time = {"EXTEND_TIMEOUT_USEC": "120000000"}
    waiting = {"STATUS": "waiting: machine 1 has not connected yet"}
    assert heard == [
        [ALIVE],
        [ALIVE, more_time, waiting],
        [ALIVE, more_time],
        [ALIVE, {"STATUS": "serving chatglm"}],
        [ALIVE, {"STATUS": "waiting: machine 1 is gone"}],
    ]


def test_a_watchdog_that_is_less_patient_than_the_server(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    status_of(manager, FakeEngine(), watchdog=301)
    assert not caplog.records
    status_of(manager, FakeEngine(), watchdog=300)
    assert "--step-timeout 300" in caplog.text


def at_descriptor(given: socket.socket | int, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of a service manager that passes this; a duplicate stands for descriptor 3."""
    number = os.dup(given if isinstance(given, int) else given.fileno())
    monkeypatch.setattr(service_manager, "_FIRST_DESCRIPTOR", number)
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}


def test_the_inherited_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = at_descriptor(server, monkeypatch)
        taken = take_listener(environment)
        assert taken is not None
        with taken:
            assert taken.getsockname() == server.getsockname()
            assert not taken.get_inheritable()
    assert not environment


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid())}],
    ids=["none", "of another process", "no sockets"],
)
def test_no_inherited_socket(environment: dict[str, str]) -> None:
    assert take_listener(environment) is None
    assert not environment


def test_several_sockets_are_refused() -> None:
    with pytest.raises(OptionError, match="passes 2 sockets"):
        take_listener({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})


@pytest.mark.parametrize("kind", ["datagrams", "connected", "a file"])
def test_what_does_not_listen_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = socket.socketpair()
    with (
        one,
        other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        (tmp_path / "file").open("w") as file,
    ):
        given = {"datagrams": datagrams, "connected": one, "a file": file.fileno()}[kind]
        environment = at_descriptor(given, monkeypatch)
        try:
            with pytest.raises(OptionError, match="no socket that listens"):
                take_listener(environment)
        finally:
            if kind == "a file":
                os.close(service_manager._FIRST_DESCRIPTOR)
