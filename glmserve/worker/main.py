"""The worker process: builds one Runner and executes steps until its executor goes away.

`executor/process.py` starts it with one end of a socketpair; it opens no other connection.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from importlib import import_module
from typing import NoReturn

import msgspec

from glmserve.config import LoadProgress, RunnerConfig
from glmserve.contract.step import Runner
from glmserve.contract.wire import (
    RANK_LOST,
    Failed,
    Loading,
    Ready,
    decode_json,
    encode_frame,
    receive_frame,
)
from glmserve.devices.affinity import run_on
from glmserve.devices.base import refuse_adapters, refuse_ranks
from glmserve.devices.host import return_free_memory
from glmserve.devices.registry import device_for
from glmserve.errors import OptionError, RankLostError, StartupError
from glmserve.process.failure import print_error
from glmserve.process.parent import die_with
from glmserve.process.torch_environment import prepare_for_torch
from glmserve.worker.acknowledging import Acknowledging
from glmserve.worker.step_loop import execute_steps

_SIGNS_OF_NO_MEMORY = ("failed to map segment", "annot allocate memory", "can't allocate memory")
"""In messages of the dynamic loader and of torch's allocators."""
_PROGRESS_INTERVAL = 0.1  # seconds between two Loading messages


def main(
    descriptor: int, parent: int, meeting: int | None = None, imports_torch: bool = False
) -> None:
    """Execute steps for the executor until it closes the connection.

    Args:
        descriptor: of the inherited socket, connected to the executor.
        parent: id of the executor's process; this process ends with it.
        meeting: of the inherited socket where the ranks of several machines meet this one, or None.
        imports_torch: whether to import torch before the config comes. Meanwhile the server starts.
    """
    die_with(parent)
    _ignore_signals()
    prepare_for_torch()
    # The present default of Triton, set because Triton has announced to change it.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    if imports_torch:
        with contextlib.suppress(Exception):  # it is reported where torch is needed
            import_module("torch")
    with socket.socket(fileno=descriptor) as connection:
        try:
            config = _receive_config(connection, meeting)
            runner = _build_runner(connection, config)
            answers = config.group is None or config.group.answers
            _serve(connection, runner if answers else Acknowledging(runner), debug=config.debug)
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(0)  # the executor is gone, so no error can be reported
        except RankLostError:
            sys.exit(RANK_LOST)  # the executor knows why, and ends all


def _serve(connection: socket.socket, runner: Runner, *, debug: bool) -> None:
    """Execute steps; the process exits if one fails."""
    try:
        execute_steps(connection, runner)
    except (ConnectionError, RankLostError):
        raise
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        print_error(
            f"the worker failed in a step: {type(error).__name__}: {error}; --debug shows where"
        )
        sys.exit(1)
    finally:
        runner.close()


def _ignore_signals() -> None:
    """Ignore signals, because the server decides when its worker stops.

    Ctrl-C, service managers and the end of a terminal session signal the whole process group. A
    worker that stopped then would be gone before the server has ended its streams.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # see executor/worker_start.py


def _receive_config(connection: socket.socket, meeting: int | None) -> RunnerConfig:
    frame = receive_frame(connection)
    if frame is None:
        sys.exit(0)
    config = decode_json(frame, RunnerConfig)
    if config.group is None:
        return config
    if config.group.meets_at is None:
        # All ranks are on this machine: NCCL must not listen on other interfaces.
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    group = msgspec.structs.replace(config.group, listener=meeting)
    return msgspec.structs.replace(config, group=group)


def _build_runner(connection: socket.socket, config: RunnerConfig) -> Runner:
    """Build the runner; on an error report it to the executor and exit."""
    last_report = 0.0

    def report(progress: LoadProgress) -> None:
        nonlocal last_report
        now = time.monotonic()
        if progress.done >= progress.total or now - last_report >= _PROGRESS_INTERVAL:
            last_report = now
            connection.sendall(encode_frame(Loading(progress)))

    try:
        # Before torch loads, and any thread starts.
        if config.cpus is not None:
            run_on(config.cpus, config.numa_node)
        device = device_for(config)
        if config.cpus is not None and device.name != "cpu":
            raise OptionError(f"--cpus and --numa-node are for the cpu device, not {device.name}")
        refuse_ranks(device, config)
        refuse_adapters(device, config)
        runner = device.create_runner(config, report)
    except StartupError as error:
        _fail(connection, error.message, error.exit_code)
    except (ConnectionError, RankLostError):
        raise
    except Exception as error:  # a hostile or damaged checkpoint can cause any error
        if config.debug:
            traceback.print_exception(error)
        _fail(connection, _why_not_loaded(error), 1)
    return_free_memory()  # memory that only loading needed
    connection.sendall(encode_frame(Ready(runner.info)))
    return runner


def _why_not_loaded(error: Exception) -> str:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS_OF_NO_MEMORY):
        return f"not enough memory for the model; `glmserve doctor` says what fits ({what})"
    return f"the model could not be loaded: {what}; --debug shows where"


def _fail(connection: socket.socket, message: str, exit_code: int) -> NoReturn:
    """Report why there is no runner, in one line that can be encoded, and exit."""
    line = " ".join(message.split()).encode("utf-8", "backslashreplace").decode()
    connection.sendall(encode_frame(Failed(line, exit_code)))
    sys.exit(exit_code)
