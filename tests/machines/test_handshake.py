"""A connection that does not prove the key is closed, whatever it sends."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from glmserve import __version__
from glmserve.config import RunnerConfig
from glmserve.contract.member import (
    MAX_GREETING,
    PROTOCOL,
    AnyMessage,
    Challenge,
    Hello,
    Join,
    MemberInfo,
    Ping,
    Refused,
    Welcome,
)
from glmserve.contract.wire import encode_frame
from glmserve.machines.handshake import RefusedError, admit, introduce
from glmserve.machines.link import Link, LinkError

INFO = MemberInfo(
    version=__version__,
    number=1,
    count=2,
    instance="",
    host="b",
    places=(),
    config=RunnerConfig(checkpoint="\udcff"),
    checkpoint="",
)
WELCOME = Welcome(7.0)


async def links() -> tuple[Link, Link]:
    one, other = socket.socketpair()
    return Link(*await asyncio.open_connection(sock=one)), Link(
        *await asyncio.open_connection(sock=other)
    )


def agree(info: MemberInfo) -> None:
    pass


async def test_both_have_the_key() -> None:
    leader, member = await links()
    admitted, welcome = await asyncio.gather(
        admit(leader, b"key", WELCOME, agree), introduce(member, b"key", INFO)
    )
    assert (admitted, welcome) == (INFO, WELCOME)
    long = b"x" * (2 * MAX_GREETING)
    leader.send(Join(b"", long))
    assert await member.receive() == Join(b"", long)
    leader.close()
    member.close()


async def test_a_leader_with_another_key_learns_nothing() -> None:
    leader, member = await links()
    admitting = asyncio.create_task(admit(leader, b"other", WELCOME, agree))
    with pytest.raises(LinkError, match="has another group key"):
        await introduce(member, b"key", INFO)
    member.close()
    with pytest.raises(LinkError, match="closed the connection"):
        await admitting
    leader.close()


@pytest.mark.parametrize("described", [b"{}", b"", b"[1"])
async def test_a_member_with_another_key(described: bytes) -> None:
    leader, member = await links()
    admitting = asyncio.create_task(admit(leader, b"key", WELCOME, agree))
    member.send(Hello(PROTOCOL, bytes(32)))
    challenge = await member.receive()
    assert isinstance(challenge, Challenge)
    member.send(Join(challenge.proof, described))  # the leader's own proof, sent back
    with pytest.raises(LinkError, match="has another group key"):
        await admitting
    leader.close()
    member.close()


async def test_what_was_heard_cannot_be_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[AnyMessage] = []
    send = Link.send

    def send_aloud(link: Link, message: AnyMessage) -> None:
        if isinstance(message, Hello | Join):
            heard.append(message)
        send(link, message)

    monkeypatch.setattr(Link, "send", send_aloud)
    leader, member = await links()
    await asyncio.gather(admit(leader, b"key", WELCOME, agree), introduce(member, b"key", INFO))
    other_leader, stranger = await links()
    for message in list(heard):
        send(stranger, message)
    with pytest.raises(LinkError, match="has another group key"):
        await admit(other_leader, b"key", WELCOME, agree)
    for link in (leader, member, other_leader, stranger):
        link.close()


async def test_a_refusal_by_a_stranger_ends_no_member() -> None:
    leader, member = await links()
    leader.send(Refused("go away", True))
    with pytest.raises(LinkError, match="sent what does not belong here"):
        await introduce(member, b"key", INFO)
    leader.close()
    member.close()


async def test_a_refusal() -> None:
    def refuse(info: MemberInfo) -> None:
        raise RefusedError("no room", is_final=False)

    leader, member = await links()
    admitting = asyncio.create_task(admit(leader, b"key", WELCOME, refuse))
    with pytest.raises(RefusedError, match="no room") as refusal:
        await introduce(member, b"key", INFO)
    assert not refusal.value.is_final
    with pytest.raises(RefusedError):
        await admitting
    leader.close()
    member.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: leader\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
        b"\xff\xff\xff\xff",
        b"\x03\x00\x00\x00abc",
        bytes(100),
        b"\x00\x01\x00\x00" + b"\x91" * 256,
        encode_frame(Ping()),
        encode_frame(Hello("glmserve-group-0", bytes(32))),
        encode_frame(Hello(PROTOCOL, b"short")),
        msgspec.msgpack.encode(["hello", PROTOCOL]),
        b"",
        b"\x05\x00",
    ],
)
async def test_garbage(garbage: bytes) -> None:
    leader, member = await links()
    admitting = asyncio.create_task(admit(leader, b"key", WELCOME, agree))
    member._writer.write(garbage)
    member.close()
    with pytest.raises(LinkError):
        await admitting
    leader.close()
