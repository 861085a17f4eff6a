"""The sandbox: a process in which every new grammar is compiled first.

llguidance bounds most of a grammar's cost and releases the interpreter lock meanwhile. But a 30 kB
regex keeps a core busy for five seconds, and a chain of some thousand references or rules overflows
its stack, which ends the process. So every new grammar is compiled in a process that may die: with
less stack than the server's threads have, a timer and a memory limit. If it passes, the server
compiles it again on a thread.

sandbox_process.py starts it with one end of a socketpair. It receives a Setup and then
CompileRequests, and answers each with a CompileResult.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec
from llguidance import LLMatcher, LLTokenizer

from glmserve.errors import InvalidRequestError
from glmserve.process.parent import die_with
from glmserve.text.structure.build import FirstTokens, build_matcher, first_mask
from glmserve.text.structure.vocabulary import ll_tokenizer

TIME_LIMIT = 2.0
"""CPU seconds for one grammar. CPU time does not depend on the machine's load. Large schemas in use
take a tenth of a second."""
_MEMORY_LIMIT = 2**31
_STACK_SIZE = 2**20
"""Bytes. The server's threads have 2 MiB or more, so a grammar that passes here is safe there."""
_NICENESS = 10
_NUM_RANDOM_WALKS = 3
_MAX_WALK_TOKENS = 40

HEADER = struct.Struct("<I")


class Setup(msgspec.Struct, frozen=True):
    """Data for all requests."""

    tokens: list[bytes]
    opening: FirstTokens


class CompileRequest(msgspec.Struct, frozen=True):
    """A structure to compile, in both forms (see GrammarText)."""

    plain: str
    after_space: str | None


class CompileResult(msgspec.Struct, frozen=True):
    """The reason for refusing a structure, or None."""

    problem: str | None


def main(descriptor: int, parent: int) -> None:
    """Serve the other end of the inherited socket `descriptor` until it closes.

    Args:
        descriptor: file descriptor of the inherited socket.
        parent: id of the server's process. This process ends with it.
    """
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The server handles signals; when it exits, the socket closes.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    os.nice(_NICENESS)
    threading.stack_size(_STACK_SIZE)
    with socket.socket(fileno=descriptor) as connection:
        thread = threading.Thread(target=_serve, args=(connection,))
        thread.start()
        thread.join()


def _serve(connection: socket.socket) -> None:
    frames = _frames(connection)
    setup = msgspec.msgpack.decode(next(frames), type=Setup)
    tokenizer = ll_tokenizer(setup.tokens)
    for frame in frames:
        request = msgspec.msgpack.decode(frame, type=CompileRequest)
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
        problem = _problem(tokenizer, setup, request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        body = msgspec.msgpack.encode(CompileResult(problem))
        connection.sendall(HEADER.pack(len(body)) + body)


def _frames(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            (size,) = HEADER.unpack(header)
            body = file.read(size)
            if len(body) < size:
                return
            yield body


def _problem(tokenizer: LLTokenizer, setup: Setup, request: CompileRequest) -> str | None:
    try:
        plain = build_matcher(tokenizer, request.plain)
        blank = build_matcher(tokenizer, request.after_space) if request.after_space else None
        mask = first_mask(plain, blank, setup.opening)
    except InvalidRequestError as error:
        return error.message
    if not _text_ids(mask, len(setup.tokens)):
        return "no text has this structure, or only the empty one"
    for seed in range(_NUM_RANDOM_WALKS):
        if not _walk(plain.deep_copy(), len(setup.tokens), random.Random(seed)):
            return "the structure is too complex, or leads to where no text can follow"
    return None


def _walk(matcher: LLMatcher, vocab_size: int, rng: random.Random) -> bool:
    """Whether a random walk through the grammar reaches no limit and no dead end."""
    for _ in range(_MAX_WALK_TOKENS):
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            return False
        ids = _text_ids(mask, vocab_size)
        if not ids:
            return bool(mask[vocab_size >> 3] >> (vocab_size & 7) & 1)
        if not matcher.consume_token(_pick(ids, rng)):
            return False
        if matcher.is_stopped():
            return True
    return True


def _text_ids(mask: bytes, vocab_size: int) -> int:
    return int.from_bytes(mask, "little") & ((1 << vocab_size) - 1)


def _pick(ids: int, rng: random.Random) -> int:
    """A random set bit: the first at or after a random index."""
    start = rng.randrange(ids.bit_length())
    rest = (ids >> start) << start
    return (rest & -rest).bit_length() - 1
