"""Machines of a group that are lost again and again: `pytest -m soak`."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack

import pytest

from support.crashing_worker import long_requests
from support.machines import MachineProcess, Readers, is_ready, until
from support.ports import free_port
from support.server_process import ServerProcess, workers_of

LOSSES = 40


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_64_streams_and_machines_and_ranks_that_are_lost() -> None:
    """A member is killed or stopped, or a rank of either machine is."""
    bodies, rng = long_requests(64), random.Random(1)
    address = f"127.0.0.1:{free_port()}"
    group = ("--tensor-parallel-size", "2", "--num-machines", "2", "--leader", address)
    limits = ("--machine-timeout", "2", "--step-timeout", "5", "--max-worker-restarts", "100")
    options = ("--dtype", "float32", *group, *limits)
    with ExitStack() as machines:
        machine = machines.enter_context(MachineProcess(1, *options))
        server = machines.enter_context(ServerProcess(*options, "--machine-rank", "0"))
        expected = [(s.texts, s.ends) for s in await Readers(server, bodies).finish()]
        losses = 0
        while losses < LOSSES:
            readers = Readers(server, bodies)
            while losses < LOSSES and await readers.go_on():
                what = rng.choice(["kill", "stop", "kill its rank", "stop its rank", "kill ours"])
                number = signal.SIGSTOP if "stop" in what else signal.SIGKILL
                if "ours" in what:
                    os.kill(workers_of(server.pid)[0], number)
                elif "rank" in what:
                    os.kill(workers_of(machine.pid)[0], number)
                else:
                    machine.send(number)
                await until(lambda: not is_ready(server))
                if what == "kill":
                    machine = machines.enter_context(MachineProcess(1, *options))
                machine.send(signal.SIGCONT)
                await until(lambda: is_ready(server))
                losses += 1
                print(f"{losses} losses: {what}")
            found = [(s.texts, s.ends) for s in await readers.finish()]
            assert found == expected
        assert server.metric("glmserve_worker_restarts_total") == LOSSES
        server.wait_until_idle()
