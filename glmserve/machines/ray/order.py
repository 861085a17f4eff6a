"""What the server tells the launcher, and the launcher each actor."""

from __future__ import annotations

import msgspec

from glmserve.config import RunnerConfig


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Actors to run, all for one server."""

    count: int
    """Number of actors; each has one rank."""
    port: int
    """Where the server listens for them."""
    key: str
    """The group's, random, in hexadecimal digits."""
    config: RunnerConfig


class ActorOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    number: int
    """From 1."""
    host: str
    """The server's machine."""
    order: Order


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the launcher says, in a line of JSON."""

    waiting: str = ""
    """What it waits for, as a sentence; empty: all actors have been started."""
    failed: str = ""
    """Why it gives up; empty: it does not."""
