"""Answering through the response cache."""

from __future__ import annotations

from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.caller import caller_of
from glmserve.api.context import context_of
from glmserve.api.journaling.asked import Asked, MakeResponse
from glmserve.api.protocol import GenerationRequest
from glmserve.api.response_cache import Answer
from glmserve.api.sse import GenerationResponse

CACHE_HEADER = "X-Glmserve-Cache"
"""`hit` on answers from the cache, `miss` on others while there is a cache."""

_NO_EFFECT = {"user", "metadata", "safety_identifier", "prompt_cache_key", "priority"}
"""Fields that change nothing about the answer."""


_JSON, _EVENT_STREAM = "application/json", "text/event-stream"


async def through_cache(
    request: Request, parsed: GenerationRequest, asked: Asked, answer: MakeResponse
) -> Response:
    """The response to a request: a kept one, or the one that `answer` makes."""
    cache = context_of(request).response_cache
    if cache is None or asked.is_resumed:
        return await answer(asked)
    key = _key(request, parsed)
    kept = cache.find(key)
    if kept is not None:
        return Response(kept.body, media_type=kept.media_type, headers={CACHE_HEADER: "hit"})
    response = await answer(asked)
    response.headers[CACHE_HEADER] = "miss"
    if isinstance(response, GenerationResponse):
        response.record(lambda body: cache.add(key, Answer(body, _EVENT_STREAM)))
    else:
        cache.add(key, Answer(bytes(response.body), _JSON))
    return response


def _key(request: Request, parsed: GenerationRequest) -> bytes:
    owner = caller_of(request).key_id or ""
    # Without defaults: that a field was sent may itself show in the answer, as service_tier does.
    content = parsed.model_dump_json(exclude=_NO_EFFECT, exclude_unset=True)
    key = blake2b(f"{owner}\n{request.url.path}\n{content}".encode(), digest_size=32)
    return key.digest()
