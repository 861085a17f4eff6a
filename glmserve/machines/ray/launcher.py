"""The launcher: the process that uses Ray. It ends with the server, and its actors with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import IO, Any

import msgspec

from glmserve.contract.wire import decode_json, encode_json
from glmserve.errors import StartupError
from glmserve.machines.ray.actor import MemberActor
from glmserve.machines.ray.order import ActorOrder, Order, Report
from glmserve.process.parent import die_with

_POLL = 1.0
"""Seconds between two looks at the actors."""
_PAUSE = 2.0
"""Seconds before an actor is replaced."""

Resources = dict[str, float]


def main(parent: int) -> None:
    """Run the actors of the Order on stdin, and write Reports to stdout.

    Args:
        parent: process id of the server.
    """
    die_with(parent)
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Ray prints
    order = decode_json(sys.stdin.buffer.read(), Order)
    try:
        _run(order, reports)
    except StartupError as error:
        _report(reports, Report(failed=error.message))
    except Exception as error:
        _report(reports, Report(failed=f"Ray failed: {type(error).__name__}: {error}"))


def _run(order: Order, reports: IO[bytes]) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to Ray's makers
    import ray

    try:
        ray.init("auto", logging_level="warning")
    except ConnectionError as error:
        raise StartupError(
            f"no Ray cluster is found: {error} `ray start --head` starts one on this machine"
        ) from None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the server decides when its ranks end
    resources = resources_of_rank(order, ray.cluster_resources())
    # GPUs near each other; CPU ranks have a machine of their own where there are enough.
    strategy = "SPREAD" if resources.keys() == {"CPU"} else "PACK"
    group = ray.util.placement_group([resources] * order.count, strategy=strategy)
    while not group.wait(timeout_seconds=_POLL):
        wish = " and ".join(f"{amount:g} {name}" for name, amount in resources.items())
        _report(reports, Report(waiting=f"Ray has no room for {order.count} times {wish} yet"))
    _report(reports, Report())
    if cpus := resources.get("CPU"):
        config = msgspec.structs.replace(order.config, threads=int(cpus))
        order = msgspec.structs.replace(order, config=config)
    _Actors(order, resources, group).keep()


def resources_of_rank(order: Order, cluster: Resources) -> Resources:
    """What a rank reserves.

    Args:
        cluster: what the whole cluster has.
    """
    device, size = order.config.device, order.count
    if device in ("cuda", "rocm") or (device == "auto" and cluster.get("GPU", 0) >= size):
        return {"GPU": 1}
    if device == "ascend" or (device == "auto" and cluster.get("NPU", 0) >= size):
        return {"NPU": 1}
    return {"CPU": float(order.config.threads or 1)}


class _Actors:
    """The actors of an order, each in its bundle of the placement group."""

    def __init__(self, order: Order, resources: Resources, group: Any) -> None:
        import ray

        self._ray = ray
        self._order = order
        self._resources = resources
        self._group = group
        self._host = ray.util.get_node_ip_address()
        self._running: dict[Any, int] = {}  # number of the actor by the result of its `run`
        self._handles: dict[int, Any] = {}  # an actor ends when its last handle is gone

    def keep(self) -> None:
        """Run all, and replace those that die, until the server ends.

        Raises:
            StartupError: the server does not want one, or it cannot read the checkpoint.
        """
        for number in range(1, self._order.count + 1):
            self._start(number)
        while self._running:
            ended, _ = self._ray.wait(list(self._running), timeout=_POLL)
            for result in ended:
                self._ended(result, self._running.pop(result))

    def _ended(self, result: Any, number: int) -> None:
        try:
            self._ray.get(result)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StartupError):
                raise StartupError(f"actor {number}: {error.cause.message}") from None
            raise
        except self._ray.exceptions.RayError:  # its process or its node is gone
            time.sleep(_PAUSE)
            self._start(number)

    def _start(self, number: int) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        own = dict(self._resources)
        actor = (
            self._ray.remote(MemberActor)
            .options(
                num_cpus=own.pop("CPU", 0),
                num_gpus=own.pop("GPU", 0),
                resources=own,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=number - 1
                ),
            )
            .remote()
        )
        order = ActorOrder(number=number, host=self._host, order=self._order)
        self._handles[number] = actor
        self._running[actor.run.remote(encode_json(order))] = number


def _report(reports: IO[bytes], report: Report) -> None:
    reports.write(encode_json(report) + b"\n")
