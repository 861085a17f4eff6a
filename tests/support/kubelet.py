"""A small kubelet: runs one pod of a rendered chart, with its probes and its end as written.

The pod's process is `glmserve serve` itself, or, with GLMSERVE_TEST_IMAGE, a container of that
image run by podman with the pod's security context. All pods share this machine's network, so each
gets a port of its own in place of the chart's 8000.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

IMAGE = os.environ.get("GLMSERVE_TEST_IMAGE", "")
PODMAN = os.environ.get("GLMSERVE_TEST_PODMAN", "podman").split()
"""The command, with options for its storage."""
_READY_SECONDS = 120.0


class Pod:
    """One pod, from its start to its end.

    Args:
        specification: `spec` of the pod; its first container is run.
    """

    def __init__(self, specification: Mapping[str, Any]) -> None:
        (self._container,) = specification["containers"]
        self._grace_seconds: int = specification["terminationGracePeriodSeconds"]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.is_ready = False
        self.was_killed = False
        """By the end of the grace period, or by the liveness probe."""
        self.exit_code: int | None = None

    async def start(self) -> None:
        """Start the container, and probe it from then on."""
        arguments = [*self._container["args"], "--host=127.0.0.1", f"--port={self.port}"]
        self._process = await asyncio.create_subprocess_exec(*self._command(arguments))
        self._probes = asyncio.create_task(self._probe())

    async def wait_until_ready(self) -> None:
        """Until the readiness probe has passed."""
        async with asyncio.timeout(_READY_SECONDS):
            while not self.is_ready:
                assert self._process.returncode is None, "the container has ended"
                await asyncio.sleep(0.05)

    async def terminate(self) -> None:
        """End the pod as a kubelet does: its entry in the service goes, then the preStop hook runs,
        then SIGTERM comes, and SIGKILL at the end of the grace period."""
        self.is_ready = False
        self._probes.cancel()
        end = time.monotonic() + self._grace_seconds
        hook = self._container["lifecycle"]["preStop"]["exec"]["command"]
        await (await asyncio.create_subprocess_exec(*hook)).wait()
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), end - time.monotonic())
        except TimeoutError:
            self._kill()
            await self._process.wait()
        self.exit_code = self._process.returncode

    def _kill(self) -> None:
        self.was_killed = True
        self._process.kill()

    def _command(self, arguments: Sequence[str]) -> list[str]:
        if not IMAGE:
            return [sys.executable, "-m", "glmserve", "serve", *arguments]
        security = self._container["securityContext"]
        confined = ["--cap-drop", *security["capabilities"]["drop"]]
        if security["readOnlyRootFilesystem"]:
            confined += ["--read-only", "--tmpfs", "/tmp"]
        if not security["allowPrivilegeEscalation"]:
            confined += ["--security-opt", "no-new-privileges"]
        run = ["run", "--rm", "--no-healthcheck", "--network", "host", *confined]
        return [*PODMAN, *run, IMAGE, *arguments]

    async def _probe(self) -> None:
        """The startup probe until it passes, then liveness and readiness beside each other."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            await self._run_probe(client, "startupProbe")
            await asyncio.gather(
                self._run_probe(client, "livenessProbe"), self._run_probe(client, "readinessProbe")
            )

    async def _run_probe(self, client: httpx.AsyncClient, name: str) -> None:
        probe, failures = self._container[name], 0
        while True:
            passed = await self._passes(client, probe)
            failures = 0 if passed else failures + 1
            has_failed = failures >= probe.get("failureThreshold", 3)
            if name == "startupProbe" and passed:
                return
            if name == "readinessProbe":
                self.is_ready = passed or (self.is_ready and not has_failed)
            elif has_failed:
                self._kill()
                return
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _passes(self, client: httpx.AsyncClient, probe: Mapping[str, Any]) -> bool:
        try:
            path, timeout = probe["httpGet"]["path"], probe.get("timeoutSeconds", 1)
            return (await client.get(path, timeout=timeout)).is_success
        except httpx.HTTPError:
            return False
