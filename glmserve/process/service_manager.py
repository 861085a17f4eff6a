"""The service manager that started this process: systemd, or another that speaks its protocol.

Sources: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

from glmserve.errors import OptionError

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_MICROSECONDS = 1_000_000


class ServiceManager:
    """Receives the states of this process.

    Args:
        address: of its datagram socket; `@` at the beginning stands for the abstract namespace of
            Linux. Empty: no service manager listens.
        watchdog: seconds in which it expects a sign of life; None: it expects none.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog

    @classmethod
    def take_from(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """The service manager that the variables name. They are removed, so that processes that
        this one starts do not speak to it.

        Raises:
            OptionError: WATCHDOG_USEC is not a number.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        if not address or not microseconds or process not in ("", str(os.getpid())):
            return cls(address)
        if not microseconds.isdecimal() or not int(microseconds):
            raise OptionError(f"WATCHDOG_USEC={microseconds}: not a number of microseconds")
        return cls(address, int(microseconds) / _MICROSECONDS)

    @property
    def listens(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def tell(self, **state: str | int) -> None:
        """Send assignments such as READY=1. One that cannot be sent is dropped: the server must not
        end because its service manager did."""
        if not self._address:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text.encode(), address)

    def extend_timeout(self, seconds: float, **state: str | int) -> None:
        """Send a state, and ask for so much time until the next one (EXTEND_TIMEOUT_USEC)."""
        self.tell(EXTEND_TIMEOUT_USEC=round(seconds * _MICROSECONDS), **state)


def take_listener(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket that the service manager has opened for this process, if it has.

    The variables are removed, and the socket is not inherited by processes that this one starts.

    Raises:
        OptionError: there are several, or the one does not listen for streams.
    """
    process, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise OptionError(
            f"the service manager passes {count} sockets, and glmserve listens on one; leave one "
            "ListenStream= in the socket unit"
        )
    try:
        listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
    except OSError:
        raise _not_listening() from None
    if listener.type != socket.SOCK_STREAM or not _accepts(listener):
        listener.close()
        raise _not_listening()
    listener.set_inheritable(False)
    return listener


def _accepts(listener: socket.socket) -> bool:
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _not_listening() -> OptionError:
    return OptionError(
        f"descriptor {_FIRST_DESCRIPTOR}, which the service manager passes (LISTEN_FDS), is no "
        "socket that listens for streams; use ListenStream= and Accept=no in the socket unit"
    )
