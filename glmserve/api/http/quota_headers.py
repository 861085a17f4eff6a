"""Headers that tell a caller how much of its token quota is left."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.api.answering.quotas import Quotas
from glmserve.api.http.state import caller_of


class QuotaHeadersMiddleware:
    """Adds OpenAI's rate limit headers for callers with a limit of tokens per minute."""

    def __init__(self, app: ASGIApp, quotas: Quotas) -> None:
        self._app = app
        self._quotas = quotas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant = caller_of(HTTPConnection(scope)).tenant
        account = self._quotas.account(tenant)
        if account is None or not tenant.tokens_per_minute:
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-ratelimit-limit-tokens"] = str(tenant.tokens_per_minute)
                headers["x-ratelimit-remaining-tokens"] = str(max(0, int(account.level)))
                reset = account.seconds_until(tenant.tokens_per_minute)
                headers["x-ratelimit-reset-tokens"] = f"{reset:.3f}s"
            await send(message)

        await self._app(scope, receive, send_with_headers)
