"""A real systemd in a container over this machine's own files, for tests of units.

Needs root, systemd-nspawn and overlayfs. All mounts are in a namespace of their own, which ends
with the container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).parents[2]

_BOOT = """
set -e
mount -t tmpfs tmpfs "$SCRATCH"
cd "$SCRATCH"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=upper,workdir=work" root
cd root
rm -rf etc/systemd/system/*.wants
cp -r "$FILES/." .
exec systemd-nspawn --register=no --keep-unit --quiet --directory=. "$@" --boot
"""

_PACKAGES = {path: f"/opt/packages/{n}" for n, path in enumerate(sys.path) if "-packages" in path}
"""Folders of this environment's packages, and where the container has them."""

_COMMAND = f"""#!/bin/sh
export PYTHONPATH=/opt/source:/opt/source/kernels:{":".join(_PACKAGES.values())}
export LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python3 -P -m glmserve "$@"
"""
"""/opt/glmserve/bin/glmserve: this checkout, with this interpreter and its packages."""


def missing() -> str:
    """Why no container can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("systemd-nspawn") is None:
        return "needs systemd-nspawn (Debian: systemd-container)"
    return ""


class Machine:
    """`with Machine(folder, files, enabled) as machine:` boots systemd.

    Args:
        folder: an empty one, for what the container needs.
        files: texts by absolute path; they are in the container besides this machine's files.
        enabled: units to start, by the target that wants them.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, str], enabled: Mapping[str, Sequence[str]]
    ) -> None:
        self._scratch = folder / "scratch"
        self._files = folder / "files"
        self._log = folder / "console.txt"
        self._scratch.mkdir()
        for path, text in {**files, "/opt/glmserve/bin/glmserve": _COMMAND}.items():
            self._write(path, text)
        (self._files / "opt/glmserve/bin/glmserve").chmod(0o755)
        for target, units in enabled.items():
            for unit in units:
                self._link(f"/etc/systemd/system/{target}.wants/{unit}", f"../{unit}")
        self._link("/etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")

    def __enter__(self) -> Machine:
        mounts = {
            sys.base_prefix: "/opt/python",
            str(REPOSITORY): "/opt/source",
            **_PACKAGES,
        }
        binds = [f"--bind-ro={path}:{inside}" for path, inside in mounts.items()]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "sh", *binds],
                env={**os.environ, "SCRATCH": str(self._scratch), "FILES": str(self._files)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leader = self._leader()
        if leader is not None:
            os.kill(leader, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    @property
    def console(self) -> str:
        """What the container has written so far."""
        return self._log.read_text(errors="replace")

    def run(self, *command: str) -> str:
        """The output of a command in the container, such as systemctl."""
        leader = self._leader()
        assert leader is not None, f"the container has ended:\n{self.console}"
        inside = ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--pid", "--net"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, timeout=90)
        return done.stdout + done.stderr

    def property_of(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def wait_for(self, unit: str, name: str, value: str, timeout: float = 90) -> None:
        """Until a property of a unit has this value."""
        deadline = time.monotonic() + timeout
        found = ""
        while time.monotonic() < deadline:
            if self._leader() is not None:
                found = self.property_of(unit, name)
                if found == value:
                    return
            time.sleep(0.2)
        log = self.run("journalctl", "--unit", unit, "--no-pager", "--lines=40")
        raise AssertionError(f"{name} of {unit} is {found!r}, not {value!r}:\n{log}")

    def _leader(self) -> int | None:
        """Process id of the container's systemd."""
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            return None
        return int(children[0]) if children else None

    def _write(self, path: str, text: str) -> None:
        file = self._files / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _link(self, path: str, target: str) -> None:
        link = self._files / path.removeprefix("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
