"""Sends conversations: so many at once, or when they are due."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import aiohttp

from glmserve.load_test.client import send
from glmserve.load_test.result import Result
from glmserve.load_test.workload import Conversation, Endpoint, Sampling, body_of

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=600)
_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


@dataclass(frozen=True)
class Run:
    """What came back. `elapsed` and `client_cpu` are seconds."""

    results: Sequence[Result]
    elapsed: float
    client_cpu: float


class LoadTest:
    """Sends conversations to one server.

    Args:
        on_result: called with each result.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        endpoint: Endpoint,
        sampling: Sampling,
        on_result: Callable[[Result], None],
    ) -> None:
        self._session = session
        self._url = url + _PATHS[endpoint]
        self._endpoint: Endpoint = endpoint
        self._sampling = sampling
        self._on_result = on_result

    async def closed(self, conversations: Iterator[Conversation], users: int) -> Run:
        """So many users, each beginning its next conversation when the last one is over."""

        async def user() -> list[Result]:
            results: list[Result] = []
            for conversation in conversations:
                results += await self._converse(conversation)
            return results

        return await self._timed([user() for _ in range(users)])

    async def open(
        self, conversations: Sequence[Conversation], rate: float, rng: random.Random
    ) -> Run:
        """Poisson arrivals, `rate` a second, whether or not earlier ones are answered."""
        start, due = time.perf_counter(), 0.0

        async def later(conversation: Conversation, due: float) -> list[Result]:
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
            return await self._converse(conversation)

        waiting = []
        for conversation in conversations:
            due += rng.expovariate(rate)
            waiting.append(later(conversation, due))
        return await self._timed(waiting)

    async def _timed(self, work: Sequence[asyncio._CoroutineLike[list[Result]]]) -> Run:
        start, cpu = time.perf_counter(), time.process_time()
        found = await asyncio.gather(*work)
        results = [result for results in found for result in results]
        return Run(results, time.perf_counter() - start, time.process_time() - cpu)

    async def _converse(self, conversation: Conversation) -> list[Result]:
        """Ask all questions; the first that fails is the last."""
        messages, results = list(conversation.earlier), list[Result]()
        for turn in conversation.turns:
            body = body_of(self._endpoint, self._sampling, messages, turn)
            result = await send(self._session, self._url, body)
            results.append(result)
            self._on_result(result)
            if result.error is not None:
                break
            messages += [
                {"role": "user", "content": str(turn.content)},
                {"role": "assistant", "content": result.text},
            ]
        return results


def open_session(api_key: str) -> aiohttp.ClientSession:
    """Connections for a load test.

    Args:
        api_key: empty: none.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT)


async def first_model(session: aiohttp.ClientSession, url: str) -> str:
    """The first model that the server lists.

    Raises:
        aiohttp.ClientError, OSError, LookupError: it lists none.
    """
    async with session.get(f"{url}/v1/models") as response:
        response.raise_for_status()
        name: str = (await response.json())["data"][0]["id"]
        return name
