"""How leader and member prove to each other that they have the group's key.

Each end answers the other's random number with an HMAC-SHA256 (RFC 2104) over both numbers and its
own role, so no answer can be used twice, or sent back. The key itself is never sent.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from typing import TypeVar

import msgspec

from glmserve import __version__
from glmserve.contract.member import (
    PROTOCOL,
    AnyMessage,
    Challenge,
    Hello,
    Join,
    MemberInfo,
    Refused,
    Welcome,
)
from glmserve.contract.wire import encode_json
from glmserve.machines.link import Link, LinkError

_NONCE_BYTES = 32
_OTHER_KEY = "has another group key"

Expected = TypeVar("Expected", bound=msgspec.Struct)


class RefusedError(Exception):
    """The leader does not take the member.

    Args:
        reason: why.
        is_final: whether the same member will be refused again.
    """

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


async def introduce(link: Link, key: bytes, info: MemberInfo) -> Welcome:
    """Join the group: the member's end of the handshake.

    Raises:
        LinkError: the connection ended, or the other end is no leader with this key.
        RefusedError: the leader does not take this member.
    """
    own = secrets.token_bytes(_NONCE_BYTES)
    link.send(Hello(PROTOCOL, own))
    challenge = _expect(await link.receive(), Challenge)
    _check(challenge.nonce)
    nonces = own + challenge.nonce
    if not hmac.compare_digest(challenge.proof, _proof(key, b"leader", nonces)):
        raise LinkError(_OTHER_KEY)
    described = encode_json(info)
    link.send(Join(_proof(key, b"member", nonces + described), described))
    answer = await link.receive()
    if isinstance(answer, Refused):
        raise RefusedError(answer.reason, is_final=answer.is_final)
    link.trust()
    return _expect(answer, Welcome)


async def admit(
    link: Link, key: bytes, welcome: Welcome, judge: Callable[[MemberInfo], None]
) -> MemberInfo:
    """Let a member join: the leader's end of the handshake.

    Args:
        welcome: sent to a member that joins.
        judge: raises RefusedError if the member cannot be one.

    Raises:
        LinkError: the connection ended, or the other end is no member with this key.
        RefusedError: `judge` raised it; the member has been told.
    """
    hello = _expect(await link.receive(), Hello)
    if hello.protocol != PROTOCOL:
        raise LinkError(f"speaks {hello.protocol[:40]!r}, not {PROTOCOL!r}")
    _check(hello.nonce)
    own = secrets.token_bytes(_NONCE_BYTES)
    nonces = hello.nonce + own
    link.send(Challenge(own, _proof(key, b"leader", nonces)))
    join = _expect(await link.receive(), Join)
    if not hmac.compare_digest(join.proof, _proof(key, b"member", nonces + join.info)):
        raise LinkError(_OTHER_KEY)
    try:
        info = _understood(join.info)
        judge(info)
    except RefusedError as refusal:
        link.send(Refused(refusal.reason, refusal.is_final))
        raise
    link.send(welcome)
    link.trust()
    return info


def _understood(described: bytes) -> MemberInfo:
    """What a member says of itself.

    Raises:
        RefusedError: it is another version of glmserve.
    """
    fields = json.loads(described)
    version = fields.get("version")
    if version != __version__:
        raise RefusedError(
            f"it is glmserve {version}, and the leader is glmserve {__version__}", is_final=True
        )
    try:
        return msgspec.convert(fields, MemberInfo)
    except msgspec.ValidationError as error:
        raise RefusedError(f"the leader does not understand it: {error}", is_final=True) from None


def _proof(key: bytes, role: bytes, said: bytes) -> bytes:
    return hmac.digest(key, role + b"\0" + said, "sha256")


def _check(nonce: bytes) -> None:
    if len(nonce) != _NONCE_BYTES:
        raise LinkError("sent what is no message of a group")


def _expect(message: AnyMessage, kind: type[Expected]) -> Expected:
    if not isinstance(message, kind):
        raise LinkError("sent what does not belong here")
    return message
