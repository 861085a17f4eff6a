"""A rolling update of the chart's Deployment under streams: none is lost, no request refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from support.helm import need_helm
from support.kubelet import Pod

yaml = pytest.importorskip("yaml")
need_helm()

from deploy.test_chart import documents, pod_of  # noqa: E402

STREAMS = 32
BODY = {
    "model": "glm-tiny",
    "prompt": "Once",
    "max_tokens": 120,
    "ignore_eos": True,
    "stream": True,
    "temperature": 0,
}


class Service:
    """Sends each request to the next ready pod, as a Service of Kubernetes does."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self.pods = list(pods)
        self._turn = itertools.count()

    def next_url(self) -> str:
        ready = [pod for pod in self.pods if pod.is_ready]
        assert ready, "no pod is ready"
        return ready[next(self._turn) % len(ready)].url


async def read(client: httpx.AsyncClient, service: Service) -> str:
    """What became of a stream: its text, or why there is none."""
    try:
        url = f"{service.next_url()}/v1/completions"
        async with client.stream("POST", url, json=BODY) as response:
            if response.status_code != 200:
                return f"status {response.status_code}"
            lines = [line async for line in response.aiter_lines()]
    except httpx.HTTPError as error:
        return repr(error)
    return "whole" if "data: [DONE]" in lines else "cut"


async def updated(values: dict[str, Any]) -> tuple[list[str], list[Pod]]:
    """Replace two pods one by one, as maxSurge 1 and maxUnavailable 0 say, while clients ask."""
    specification = pod_of(documents(values))
    service, old = Service([]), [Pod(specification) for _ in range(2)]
    outcomes: list[str] = []
    is_over = asyncio.Event()

    async def ask_on(client: httpx.AsyncClient) -> None:
        while not is_over.is_set():
            outcomes.append(await read(client, service))

    for pod in old:
        await pod.start()
    for pod in old:
        await pod.wait_until_ready()
    service.pods += old
    new: list[Pod] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        clients = [asyncio.create_task(ask_on(client)) for _ in range(STREAMS)]
        for pod in old:
            surge = Pod(specification)
            await surge.start()
            await surge.wait_until_ready()
            service.pods.append(surge)
            new.append(surge)
            await pod.terminate()
            service.pods.remove(pod)
        is_over.set()
        await asyncio.gather(*clients)
    for pod in new:
        await pod.terminate()
    return outcomes, [*old, *new]


@pytest.mark.deploy
@pytest.mark.timeout(600)
async def test_a_rolling_update_loses_nothing() -> None:
    outcomes, pods = await updated({"preStopSeconds": 1})
    assert len(outcomes) > 2 * STREAMS
    assert set(outcomes) == {"whole"}
    assert [(pod.exit_code, pod.was_killed) for pod in pods] == [(0, False)] * len(pods)
