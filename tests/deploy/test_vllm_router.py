"""deploy/vllm-router: conversations find their caches, and a server may die."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.test_proxies import BODY, STREAMS, Proxy, read, running
from support.conversations import cached_share
from support.ports import free_ports
from support.server_process import ServerProcess

SCRIPT = Path(__file__).parents[2] / "deploy" / "vllm-router" / "run.sh"
PROGRAM = os.environ.get("GLMSERVE_TEST_VLLM_ROUTER") or shutil.which("vllm-router")
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(not PROGRAM, reason="needs vllm-router; see deploy/test-setup.sh"),
]


@contextmanager
def router(servers: list[ServerProcess], policy: str) -> Iterator[Proxy]:
    """The router, started by the script."""
    port, metrics = free_ports(2)
    environment = {
        **os.environ,
        "PATH": f"{Path(str(PROGRAM)).parent}:{os.environ['PATH']}",
        "PORT": str(port),
        "METRICS_PORT": str(metrics),
        "SERVERS": " ".join(server.url for server in servers),
        "POLICY": policy,
    }
    with running([str(SCRIPT)], environment) as process:
        proxy = Proxy(process, port, signal.SIGHUP)
        wait_until_models(proxy.url)
        yield proxy


def wait_until_models(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/v1/models").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError("the router finds no server")


@pytest.fixture
def servers() -> Iterator[list[ServerProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ServerProcess()) for _ in range(2)]


async def test_conversations_find_their_caches(servers: list[ServerProcess]) -> None:
    shares = {}
    for seed, policy in enumerate(("cache_aware", "round_robin")):
        with router(servers, policy) as proxy:
            # An odd number: with an even one, turns alternate so that each finds its server.
            shares[policy] = await cached_share(
                proxy.url, "/v1/chat/completions", seed=seed, talks=7
            )
    print(shares)
    assert shares["cache_aware"] > 0.6
    assert shares["cache_aware"] > shares["round_robin"] + 0.1


async def test_a_server_that_is_killed(servers: list[ServerProcess]) -> None:
    """Its streams are cut, the other's are whole, and later requests are answered."""
    with router(servers, "round_robin") as proxy:
        async with httpx.AsyncClient(base_url=proxy.url, timeout=120) as client:
            streams = [asyncio.create_task(read(client)) for _ in range(STREAMS)]
            await asyncio.sleep(0.3)
            os.kill(servers[0].pid, signal.SIGKILL)
            at_once = [asyncio.create_task(read(client)) for _ in range(STREAMS)]
            cut = [status for status, _ in await asyncio.gather(*streams)].count(0)
            print("cut", cut, "at once", [status for status, _ in await asyncio.gather(*at_once)])
            await asyncio.sleep(2)  # the health check
            later = [await read(client) for _ in range(4)]
    assert 0 < cut < STREAMS
    assert [status for status, _ in await asyncio.gather(*at_once)] == [200] * STREAMS
    assert [status for status, _ in later] == [200] * 4


def test_the_fields_that_it_adds_change_nothing(servers: list[ServerProcess]) -> None:
    """The router rebuilds bodies, with fields of its own."""
    body = BODY | {"stream": False}
    with router(servers, "cache_aware") as proxy:
        routed = httpx.post(f"{proxy.url}/v1/completions", json=body, timeout=60)
    direct = httpx.post(f"{servers[0].url}/v1/completions", json=body, timeout=60)
    assert routed.status_code == 200
    assert routed.json()["choices"] == direct.json()["choices"]
