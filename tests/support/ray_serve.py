"""deploy/ray on a real Ray cluster of this machine."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.server_process import children

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"
_READY_SECONDS = 150.0


class Application:
    """The application of config.yaml, with a port of its own and less patience.

    Args:
        address: of the cluster.
        folder: for the changed configuration.
    """

    def __init__(self, address: str, folder: Path, port: int) -> None:
        import yaml

        self._address = address
        self._file = folder / "config.yaml"
        self.url = f"http://127.0.0.1:{port}"
        self.config: dict[str, Any] = yaml.safe_load((FOLDER / "config.yaml").read_text())
        self.config["http_options"]["port"] = port
        self.replica["health_check_period_s"] = 1
        self.replica["ray_actor_options"]["num_cpus"] = 1

    @property
    def replica(self) -> dict[str, Any]:
        """The deployment of the servers, to be changed."""
        (application,) = self.config["applications"]
        found: dict[str, Any] = application["deployments"][0]
        assert found["name"] == "Replica"
        return found

    def without_affinity(self) -> dict[str, Any]:
        config = copy.deepcopy(self.config)
        del config["applications"][0]["deployments"][0]["request_router_config"]
        return config

    def named(self, model: str) -> dict[str, Any]:
        """With another option for the servers."""
        config = copy.deepcopy(self.config)
        config["applications"][0]["args"]["options"] += ["--served-model-name", model]
        return config

    def scaled(self, *, target: int, largest: int) -> dict[str, Any]:
        """With more replicas at once, when each has more than the target of requests."""
        config = self.named("other")
        scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
        scaling |= {"target_ongoing_requests": target, "max_replicas": largest}
        scaling["upscale_delay_s"] = 1
        return config

    def deploy(self, config: dict[str, Any]) -> None:
        """`serve run`, as deploy/README.md says; returns before it is ready."""
        import yaml

        self._file.write_text(yaml.safe_dump(config))
        command = ["serve", "run", "--non-blocking", "--address", self._address]
        subprocess.run(
            [*command, "--working-dir", str(FOLDER), str(self._file)], check=True, timeout=100
        )

    def wait_until_served(self, count: int = 2, gone: Iterable[int] = ()) -> None:
        """Until that many servers are ready, none of them of the actors that should be gone."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if set(replicas()).isdisjoint(gone) and self._states() == {"RUNNING": count}:
                time.sleep(1)  # the entries hear of it
                return
            time.sleep(0.2)
        raise AssertionError(f"the application is not ready: {self._states()}")

    def _states(self) -> dict[str, int]:
        """How many replicas are in each state."""
        from ray import serve

        (application,) = serve.status().applications.values()
        replica = application.deployments.get("Replica")
        is_up = application.status == "RUNNING" and replica is not None
        return dict(replica.replica_states) if is_up else {}


def replicas() -> dict[int, int]:
    """Process ids of the actors that have a server, and of their servers."""
    found = {}
    for raylet in _named(b"raylet"):
        for actor in children(raylet):
            servers = [pid for pid in children_of(actor) if _is_server(pid)]
            if servers:
                found[actor] = servers[0]
    return found


def children_of(pid: int) -> list[int]:
    """Also those that other threads than the first have started."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in tasks.read_text().split()]
        except OSError:
            continue  # it has ended meanwhile
    return found


def _named(name: bytes) -> list[int]:
    """Child processes of this one."""
    return [pid for pid in children_of(os.getpid()) if name in _command(pid)]


def _is_server(pid: int) -> bool:
    return b"glmserve\0serve" in _command(pid)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """Address of a cluster of one node."""
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False}
    )
    try:
        ray.init(address=started.address, log_to_driver=False)
        yield started.address
    finally:
        servers = list(replicas().values())
        ray.shutdown()
        started.shutdown()
        for pid in servers:
            assert not _is_server(pid) or _ends(pid), "a server has outlived its cluster"


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not _is_server(pid):
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False
