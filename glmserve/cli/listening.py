"""The socket that the server listens on: a TCP port or a Unix domain socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from glmserve.errors import OptionError
from glmserve.process.service_manager import take_listener

_BACKLOG = 2048
"""Maximum number of connections that wait to be accepted."""
_PORT_REMEDIES = {
    errno.EADDRINUSE: "end what listens there, or give another --port",
    errno.EADDRNOTAVAIL: "give an address of this machine by --host; 0.0.0.0 is all of them",
    errno.EACCES: "give a --port from 1024 on, or the right to use this one",
}


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int
    uds: Path | None = None
    """Path of a Unix domain socket, in place of host and port."""


@contextlib.contextmanager
def listen(address: Address) -> Iterator[socket.socket]:
    """Take the address, before anything heavy happens.

    A socket that the service manager has opened (systemd's socket activation) comes before it.

    Raises:
        OptionError: it is taken or forbidden, the host is not an address of this machine, or the
            service manager's socket is not one to listen on.
    """
    inherited = take_listener(os.environ)
    if inherited is not None:
        with inherited:
            yield inherited
        return
    if address.uds is None:
        with _listen_on_port(address.host, address.port) as listener:
            yield listener
        return
    with _listen_on_path(address.uds) as listener:
        created = address.uds.stat().st_ino
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if address.uds.stat().st_ino == created:  # else another server has replaced it
                    address.uds.unlink()


def url_of(listener: socket.socket, *, has_tls: bool) -> str:
    """The base URL of the server, as clients of TCP or of Unix sockets write it."""
    scheme = "https" if has_tls else "http"
    if listener.family == socket.AF_UNIX:
        return f"{scheme}+unix://{quote(listener.getsockname(), safe='')}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def curl_target(listener: socket.socket, path: str, *, has_tls: bool) -> list[str]:
    """The arguments of curl that name this server and a path of it."""
    if listener.family == socket.AF_UNIX:
        scheme = "https" if has_tls else "http"
        return ["--unix-socket", listener.getsockname(), f"{scheme}://localhost{path}"]
    return [url_of(listener, has_tls=has_tls) + path]


def _listen_on_port(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # SO_REUSEADDR: only listen() reserves the port
    except OSError as error:
        listener.close()
        remedy = _PORT_REMEDIES.get(error.errno or 0, "give another --host or --port")
        raise _cannot_listen(f"{host}:{port}", error, remedy) from None
    return listener


def _listen_on_path(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_abandoned(path)
        listener.bind(os.fspath(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(str(path), error, "give another --uds") from None
    return listener


def _remove_abandoned(path: Path) -> None:
    """Remove the socket of a server that has died. A file that is no socket stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()


def _cannot_listen(where: str, error: OSError, remedy: str) -> OptionError:
    reason = error.strerror or str(error)
    return OptionError(f"cannot listen on {where}: {reason.lower()}; {remedy}")
