"""The process in which a grammar is compiled for the first time.

llguidance bounds most of what a grammar can cost, and never holds the interpreter's lock for it.
But a 30 kB regex keeps a core busy for five seconds, and some thousand references or rules in a
row overflow its stack, which ends the process. So every new grammar is tried in a process that may
die: on less stack than the server's threads have, with a timer and a memory limit. What passed is
compiled again in the server, on a thread.

Started by trial_process.py with one end of a socketpair: it receives a Setup and then Trials, and
answers each Trial with a Verdict.
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
from glmserve.text.structure.build import Opening, build_matcher, first_mask
from glmserve.text.structure.vocabulary import ll_tokenizer

TIME_LIMIT = 2.0
"""CPU seconds for one trial: a busy machine must not make a structure look too complex. Large
schemas in use take a tenth of one."""
_MEMORY_LIMIT = 2**31
_STACK_SIZE = 2**20
"""Threads have 2 MiB or more by default, so in the server there is stack to spare."""
_NICENESS = 10
_WALKS = 3
_WALK_LENGTH = 40

HEADER = struct.Struct("<I")


class Setup(msgspec.Struct, frozen=True):
    """What all trials share."""

    tokens: list[bytes]
    opening: Opening


class Trial(msgspec.Struct, frozen=True):
    """A structure to compile."""

    plain: str
    after_blank: str | None


class Verdict(msgspec.Struct, frozen=True):
    """Why a structure is refused; None: it is not."""

    problem: str | None


def main(descriptor: int, parent: int) -> None:
    """Serve the other end of the inherited socket `descriptor` until it closes.

    Args:
        parent: id of the server's process, with which this one ends.
    """
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the server, whose end closes the socket
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
        trial = msgspec.msgpack.decode(frame, type=Trial)
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
        problem = _problem(tokenizer, setup, trial)
        signal.setitimer(signal.ITIMER_PROF, 0)
        body = msgspec.msgpack.encode(Verdict(problem))
        connection.sendall(HEADER.pack(len(body)) + body)


def _frames(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            (size,) = HEADER.unpack(header)
            body = file.read(size)
            if len(body) < size:
                return
            yield body


def _problem(tokenizer: LLTokenizer, setup: Setup, trial: Trial) -> str | None:
    try:
        plain = build_matcher(tokenizer, trial.plain)
        blank = build_matcher(tokenizer, trial.after_blank) if trial.after_blank else None
        mask = first_mask(plain, blank, setup.opening)
    except InvalidRequestError as error:
        return error.message
    if not _text_ids(mask, len(setup.tokens)):
        return "no text has this structure, or only the empty one"
    for seed in range(_WALKS):
        if not _walk(plain.deep_copy(), len(setup.tokens), random.Random(seed)):
            return "the structure is too complex, or leads to where no text can follow"
    return None


def _walk(matcher: LLMatcher, vocab_size: int, rng: random.Random) -> bool:
    """Whether a way through the grammar, chosen at random, meets no limit and no dead end."""
    for _ in range(_WALK_LENGTH):
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
    """A bit that is set: the first from some place on, or else the first of all."""
    start = rng.randrange(ids.bit_length())
    rest = (ids >> start) << start
    return (rest & -rest).bit_length() - 1
