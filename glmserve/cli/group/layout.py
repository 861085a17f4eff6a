"""Which machines hold the ranks of a model: by options, or by the variables of a launcher.

`auto` honours a launcher's variables only if the model has more than one rank, so that a variable
that was left in a shell changes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from glmserve.contract.shard import WHOLE, Shard
from glmserve.errors import OptionError
from glmserve.machines.layout import Layout

ExecutorName = Literal["auto", "local", "torchrun", "lws", "ray"]
DEFAULT_PORT = 29600
_MASTER_PORT = 29500
"""torchrun's default."""
_LARGEST_PORT = 2**16 - 1
_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR")
_LWS = ("LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX")

Address = tuple[str, int]


@dataclass(frozen=True)
class Processes:
    """Processes that were started to form a group."""

    what: str
    """How their number is said, for error messages."""
    count: int
    number: int
    host: str
    port: int
    local: Shard = WHOLE
    """This process's number among those of its machine."""
    noun: str = "machine"
    stays: bool = True


def read_layout(
    options: argparse.Namespace, size: int, environment: Mapping[str, str]
) -> Layout | None:
    """The layout of a group of several machines or processes that others have started.

    Args:
        options: with those of `add_machine_options`.
        size: number of ranks.
        environment: of this process.

    Returns:
        None: this process starts all ranks itself.

    Raises:
        OptionError: options or variables are missing, or contradict each other.
    """
    executor = options.executor
    _refuse_contradictions(options)
    if executor in ("local", "ray"):
        return None
    if options.num_machines > 1:
        return _layout(_by_options(options), size)
    wanted = size > 1 or executor != "auto"
    if wanted and executor in ("auto", "torchrun"):
        processes = _by_torchrun(environment, options.leader, demanded=executor == "torchrun")
        if processes is not None:
            return _layout(processes, size)
    if wanted and executor in ("auto", "lws"):
        processes = _by_lws(environment, options.leader, demanded=executor == "lws")
        if processes is not None:
            return _layout(processes, size)
    if options.leader is not None:
        raise OptionError("--leader is for several machines; give --num-machines as well")
    return None


def _refuse_contradictions(options: argparse.Namespace) -> None:
    if options.executor != "auto" and options.num_machines > 1:
        raise OptionError(
            f"--num-machines {options.num_machines} and --executor {options.executor} contradict "
            "each other; leave one of them out"
        )
    if options.machine_rank is not None and options.num_machines == 1 and options.machine_rank:
        raise OptionError("--machine-rank is for several machines; give --num-machines as well")
    if options.executor in ("local", "ray") and options.leader is not None:
        raise OptionError(
            f"--leader and --executor {options.executor} contradict each other; leave one out"
        )


def _by_options(options: argparse.Namespace) -> Processes:
    if options.machine_rank is None or options.leader is None:
        raise OptionError(
            f"--num-machines {options.num_machines} needs --machine-rank, the number of this "
            "machine, and --leader HOST:PORT, the address of machine 0"
        )
    if options.machine_rank >= options.num_machines:
        raise OptionError(
            f"--machine-rank {options.machine_rank}: machines are numbered from 0 to "
            f"{options.num_machines - 1}"
        )
    host, port = options.leader
    what = f"--num-machines {options.num_machines}"
    return Processes(what, options.num_machines, options.machine_rank, host, port)


def _by_torchrun(
    environment: Mapping[str, str], leader: Address | None, *, demanded: bool
) -> Processes | None:
    """torchrun starts a process for each rank, or one for each machine."""
    count = _number(environment, "WORLD_SIZE", 1)
    if not _all_set(environment, _TORCHRUN, count > 1, demanded) or count == 1:
        return None
    host, port = leader or (environment["MASTER_ADDR"], _port_after(environment))
    local_count = _number(environment, "LOCAL_WORLD_SIZE", 1)
    return Processes(
        f"WORLD_SIZE {count}",
        count,
        _index(environment, "RANK", count),
        host,
        port,
        Shard(_index(environment, "LOCAL_RANK", local_count), local_count),
        noun="process",
        stays=False,
    )


def _by_lws(
    environment: Mapping[str, str], leader: Address | None, *, demanded: bool
) -> Processes | None:
    """A LeaderWorkerSet starts the same pod on each machine."""
    count = _number(environment, "LWS_GROUP_SIZE", 1)
    if not _all_set(environment, _LWS, count > 1, demanded) or count == 1:
        return None
    host, port = leader or (environment["LWS_LEADER_ADDRESS"], DEFAULT_PORT)
    number = _index(environment, "LWS_WORKER_INDEX", count)
    return Processes(f"LWS_GROUP_SIZE {count}", count, number, host, port)


def _layout(processes: Processes, size: int) -> Layout:
    ranks, rest = divmod(size, processes.count)
    if rest or not ranks:
        raise OptionError(
            f"{processes.what} must divide the number of ranks, which is {size}: "
            "--tensor-parallel-size times --pipeline-parallel-size"
        )
    first, on_machine = processes.local.rank * ranks, processes.local.size * ranks
    return Layout(
        count=processes.count,
        number=processes.number,
        host=processes.host,
        port=processes.port,
        places=tuple(Shard(first + i, on_machine) for i in range(ranks)),
        noun=processes.noun,
        stays=processes.stays,
    )


def _all_set(
    environment: Mapping[str, str], names: tuple[str, ...], several: bool, demanded: bool
) -> bool:
    """Whether all variables are set.

    Args:
        several: they say that there are several processes.
        demanded: an option says that they must be set.

    Raises:
        OptionError: some are missing, and must not.
    """
    missing = [name for name in names if not environment.get(name)]
    if missing and (several or demanded):
        raise OptionError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set, which a "
            f"launcher sets with {' and '.join(n for n in names if n not in missing) or 'others'}; "
            "set all of them, or give --executor local"
        )
    return not missing


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not text.isascii():
        raise OptionError(f"{name}={text} is no number; --executor local does without it")
    return int(text)


def _port_after(environment: Mapping[str, str]) -> int:
    """The port behind torchrun's own."""
    port = _number(environment, "MASTER_PORT", _MASTER_PORT) + 1
    if port > _LARGEST_PORT:
        raise OptionError(
            f"MASTER_PORT={port - 1}: the next port is the leader's, and {_LARGEST_PORT} is the "
            "largest; give another one by --leader HOST:PORT"
        )
    return port


def _index(environment: Mapping[str, str], name: str, count: int) -> int:
    number = _number(environment, name, 0)
    if number >= count:
        raise OptionError(
            f"{name}={number} is not below {count}, the number of processes; --executor local "
            "does without it"
        )
    return number
