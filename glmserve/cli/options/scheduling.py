"""Options for scheduling: batch size, token budget, queue, speculation."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from glmserve.cli import values
from glmserve.config import SchedulerConfig, Tenant
from glmserve.errors import OptionError


def add_scheduling_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "scheduling" to a command."""
    group = parser.add_argument_group("scheduling")
    group.add_argument(
        "--max-batch-size",
        "--max-num-seqs",
        "--max-running-requests",
        type=values.positive,
        metavar="N",
        help="largest number of requests that run at the same time; default: 64, on a GPU of 32 "
        "GiB or more 256",
    )
    group.add_argument(
        "--max-step-tokens",
        "--max-num-batched-tokens",
        type=values.positive,
        metavar="N",
        help="token budget of one step, prefill and decode together. A longer prompt is computed "
        "in chunks, so this bounds how long it delays other requests. Default: 512 on a CPU, 2048 "
        "on a GPU; for ChatGLM-6B, which has no chunks, its context and one token per request",
    )
    group.add_argument(
        "--max-step-time",
        type=values.seconds_or_auto,
        metavar="SECONDS",
        help="the longest that a step should take while requests are decoding: prompts get what "
        "decodes leave of it, and a whole step when nothing decodes. auto: three times the decodes "
        "alone, and at least 0.05; 0: no limit (default: auto)",
    )
    group.add_argument(
        "--queue-size",
        type=values.non_negative,
        default=4096,
        metavar="N",
        help="requests of one API key that may wait; 0: no limit",
    )
    group.add_argument(
        "--queue-timeout",
        type=values.seconds,
        default=600.0,
        metavar="SECONDS",
        help="a request that waits longer than this gets 503 with Retry-After; 0: no limit",
    )
    group.add_argument(
        "--queue-full-status",
        type=values.http_error_status,
        default=429,
        metavar="STATUS",
        help="HTTP status of a request that finds the queue full; it comes with Retry-After",
    )
    group.add_argument(
        "--release-cache-after",
        type=values.seconds,
        default=0.0,
        metavar="SECONDS",
        help="after this time without a request, empty the prefix cache and give the KV cache's "
        "memory back to the system; it is taken again as requests need it. On a CPU only, with the "
        "native attention backend. 0: never",
    )
    group.add_argument(
        "--speculative-tokens",
        type=values.number_or_auto,
        default=0,
        metavar="N",
        help="draft up to N tokens of a request per step by prompt lookup: copy what followed the "
        "last tokens earlier in the text. Only tokens that the model would have chosen are kept, "
        "so the text stays the same. Not on a GPU. auto: as many as make answers faster, by the "
        "measured times of steps and by how many drafts were correct; none on a GPU, where "
        "drafts would keep steps from being planned ahead. 0: off",
    )
    group.add_argument(
        "--share-drafts",
        action="store_true",
        help="with --speculative-tokens: draft from earlier answers, too, to prompts of the same "
        "API key and adapter that begin with the same 32 tokens",
    )


def scheduler_config(options: argparse.Namespace, tenants: Iterable[Tenant]) -> SchedulerConfig:
    """The config of the scheduler.

    Raises:
        OptionError: two options contradict each other.
    """
    if options.share_drafts and options.speculative_tokens == 0:
        raise OptionError("--share-drafts is for drafts; give --speculative-tokens auto, too")
    return SchedulerConfig(
        max_batch_size=options.max_batch_size,
        max_step_tokens=options.max_step_tokens,
        max_step_time=options.max_step_time,
        queue_size=options.queue_size,
        queue_timeout=options.queue_timeout,
        prefix_cache=options.prefix_cache,
        speculative_tokens=options.speculative_tokens,
        share_drafts=options.share_drafts,
        release_cache_after=options.release_cache_after,
        tenant_weights={tenant.name: tenant.weight for tenant in tenants},
    )
