"""Output of start-up: progress bars while the model loads, then a summary of the server."""

from __future__ import annotations

import json
import shlex
import socket
from typing import Any

from tqdm import tqdm

from glmserve import __version__
from glmserve.api.answering.context import ServerContext
from glmserve.cli.listening import curl_target, url_of
from glmserve.cli.units import format_count, format_size
from glmserve.config import LoadPhase, LoadProgress
from glmserve.contract.step import RankInfo, RunnerInfo

_BARS: dict[LoadPhase, dict[str, Any]] = {
    "weights": {"desc": "loading weights", "unit": "B", "unit_scale": True},
    "calibration": {"desc": "calibrating", "unit": "token"},
    "graphs": {"desc": "recording decode graphs", "unit": "graph"},
}


class LoadingBar:
    """Shows a progress bar for each phase.

    Args:
        is_shown: None: on a terminal, and not elsewhere.
    """

    def __init__(self, is_shown: bool | None = None) -> None:
        self._is_hidden = None if is_shown is None else not is_shown
        self._phase: LoadPhase | None = None
        self._bar: tqdm[None] | None = None

    def update(self, progress: LoadProgress) -> None:
        """Show the progress of loading."""
        if self._bar is None or progress.phase != self._phase:
            self.close()
            self._phase = progress.phase
            self._bar = tqdm(total=progress.total, disable=self._is_hidden, **_BARS[progress.phase])
        self._bar.total = progress.total  # of ranks it is known when all have reported
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Close the bar, and leave it on the terminal."""
        if self._bar is not None:
            self._bar.close()


def announce(context: ServerContext, listener: socket.socket, *, has_tls: bool) -> None:
    """Print the model, device, capacity and URL, and a command to try the server."""
    url = url_of(listener, has_tls=has_tls) + context.config.root_path
    info = context.engine.info
    limits = info.limits
    names = " = ".join(context.config.model_names)
    size = f"{format_count(info.num_parameters)} parameters ({format_size(info.weight_bytes)})"
    prefix = context.model.prefix
    tuning = f", behind the prefix {prefix.checkpoint}" if prefix else ""
    lines = [
        f"glmserve {__version__}",
        f"  model     {names}, {size}{tuning}",
        f"  device    {_device(info)}, {info.dtype}",
        *_ranks(context),
        f"  KV cache  {limits.token_capacity:,} tokens ({format_size(info.kv_cache_bytes)}); "
        f"context {_context(context)}, {limits.max_sequences} requests at once",
        *([f"  chats     {context.chat_reason}"] if context.chat_reason else []),
        *_adapters(context),
        *_defaults(context),
        *_journal(context),
        *([f"  page      {url}/"] if context.config.page else []),
        f"  URL       {url}/v1  (docs: {url}/docs)",
        "",
        "Try it:",
        f"  {_curl(context, listener, has_tls)}",
    ]
    print("\n".join(lines), flush=True)


def _device(info: RunnerInfo) -> str:
    if not info.ranks:
        return info.device
    stages = len({rank.layers for rank in info.ranks})
    kinds = ["tensor"] * (stages < len(info.ranks)) + ["pipeline"] * (stages > 1)
    return f"{len(info.ranks)} ranks, {' and '.join(kinds)} parallel"


def _ranks(context: ServerContext) -> list[str]:
    """A line for each rank of a group."""
    return [
        f"  rank {number}    {f'{rank.host}: ' if rank.host else ''}{_layers(rank)}{rank.device}, "
        f"weights {format_size(rank.weight_bytes)}, KV cache {format_size(rank.kv_cache_bytes)}"
        for number, rank in enumerate(context.engine.info.ranks)
    ]


def _layers(rank: RankInfo) -> str:
    """The layers of its stage, if there are several stages."""
    if rank.layers is None:
        return ""
    first, last = rank.layers
    return f"layer {first}, " if first == last else f"layers {first}-{last}, "


def _adapters(context: ServerContext) -> list[str]:
    """Names of adapters, where others are found, and how many fit."""
    capacity, options = context.engine.info.limits.max_adapters, context.config.adapters
    if not capacity:
        return []
    names = [adapter.name for adapter in options.named]
    folder = [f"those in {options.directory}"] if options.directory is not None else []
    what = ", ".join([*names, *folder]) or "none yet"
    return [f"  adapters  {what}; {capacity} at a time"]


def _defaults(context: ServerContext) -> list[str]:
    """What the checkpoint's generation_config.json sets for requests that do not."""
    text = str(context.generation_defaults)
    if not text:
        return []
    return [f"  defaults  {text} (generation_config.json)"]


def _journal(context: ServerContext) -> list[str]:
    """Where the journal is, and what is there."""
    return [f"  journal   {context.answers.journal}"] if context.answers is not None else []


def _context(context: ServerContext) -> str:
    """The context length, with the model's own if the memory limits it."""
    here, whole = context.engine.info.limits.max_context, context.model.max_context
    return f"{here:,}" if here == whole else f"{here:,} of the model's {whole:,}"


def _curl(context: ServerContext, listener: socket.socket, has_tls: bool) -> str:
    """A curl command that sends a request to this server."""
    body: dict[str, object] = {"model": context.config.served_model_name, "stream": True}
    if context.chat_format is not None:
        path = "chat/completions"
        body["messages"] = [{"role": "user", "content": "Hello! Who are you?"}]
    else:
        path = "completions"
        marks = context.model.prompt_marks
        body["prompt"] = [1, 2, 3, *(marks.shortest_prompt if marks else ())]
    target = curl_target(listener, f"{context.config.root_path}/v1/{path}", has_tls=has_tls)
    command = ["curl", "-N", *target, "-H", "Content-Type: application/json"]
    if context.config.api_keys:
        command += ["-H", "Authorization: Bearer YOUR_KEY"]
    return shlex.join([*command, "-d", json.dumps(body, ensure_ascii=False)])
