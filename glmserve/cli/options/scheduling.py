"""How requests share the model."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from glmserve.cli import values
from glmserve.config import SchedulerConfig, Tenant


def add_scheduling_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("scheduling")
    group.add_argument(
        "--max-batch-size",
        type=values.positive,
        default=64,
        metavar="N",
        help="requests that run at the same time",
    )
    group.add_argument(
        "--max-step-tokens",
        type=values.positive,
        metavar="N",
        help="new tokens in one step; longer prompts are computed in chunks; default: 512 on a "
        "CPU, 2048 on a GPU; for ChatGLM-6B, which has no chunks, what its longest prompt needs",
    )
    group.add_argument(
        "--queue-size",
        type=values.non_negative,
        default=4096,
        metavar="N",
        help="requests that may wait, of each API key; 0: no bound",
    )
    group.add_argument(
        "--queue-timeout",
        type=values.seconds,
        default=600.0,
        metavar="SECONDS",
        help="a request that has waited as long without being begun gets 503; 0: never",
    )
    group.add_argument(
        "--queue-full-status",
        type=values.http_error_status,
        default=429,
        metavar="STATUS",
        help="what a request gets when the queue is full",
    )
    group.add_argument(
        "--speculative-tokens",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="guess up to N tokens of a request ahead in each step, from where its text stood "
        "before, and keep those that the model would have chosen (prompt lookup); 0: never",
    )


def scheduler_config(options: argparse.Namespace, tenants: Iterable[Tenant]) -> SchedulerConfig:
    """What the scheduler is told."""
    return SchedulerConfig(
        max_batch_size=options.max_batch_size,
        max_step_tokens=options.max_step_tokens,
        queue_size=options.queue_size,
        queue_timeout=options.queue_timeout,
        prefix_cache=options.prefix_cache,
        speculative_tokens=options.speculative_tokens,
        tenant_weights={tenant.name: tenant.weight for tenant in tenants},
    )
