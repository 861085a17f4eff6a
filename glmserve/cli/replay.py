"""`glmserve replay FILE`: computes a recording again and compares the tokens."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from glmserve.cli.options import add_device_options, add_model_options, npu_environment
from glmserve.config import RunnerConfig, SupervisionConfig
from glmserve.errors import AdapterError, OptionError, StartupError, WorkerLostError
from glmserve.model_config import ModelConfig, read_model_config

if TYPE_CHECKING:
    from glmserve.contract.step import RunnerInfo
    from glmserve.executor import Executor
    from glmserve.text import Tokenizer
    from glmserve.trace import Beginning, Comparison, Difference, Event

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_RECORDED = {
    "max_model_len",
    "block_size",
    "kv_cache_memory",
    "kv_cache_tokens",
    "gpu_memory_utilization",
}
"""Options that a replay takes from the recording, because the recorded steps contain block ids."""
_UNSUPPORTED = {"cpus", "numa_node"}
"""Options without a meaning in a replay."""


def add_command(commands: Commands) -> None:
    """Add `replay` to the command line."""
    parser = commands.add_parser(
        "replay",
        help="repeat the steps of a file that serve --record has written",
        description="Repeat the steps of a recording exactly, and report the first token that "
        "differs. Each step continues from the recorded tokens. Exit code 0: all tokens are equal; "
        "1: a token differs. Options of serve replace the recorded ones, to compare devices, "
        "number formats and kernels.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="file that serve --record has written"
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="compute each request in a batch of its own; its text must be the same",
    )
    add_model_options(parser)
    add_device_options(parser)
    for action in parser._actions:
        if action.dest in RunnerConfig.__struct_fields__:
            action.default = argparse.SUPPRESS


def run(options: argparse.Namespace) -> int:
    """Replay a recording; returns the exit code.

    Raises:
        StartupError: the runner cannot be started, differs from the recorded one, or is lost, or an
            adapter of the recording cannot be loaded.
        OptionError: the file is not a usable recording, or an option cannot be replaced.
    """
    try:
        return asyncio.run(_replay(options))
    except AdapterError as error:
        raise StartupError(f"an adapter of the recording: {error.message}") from None


async def _replay(options: argparse.Namespace) -> int:
    from glmserve.trace import fitting_events, read_recording, replay_steps

    beginning, events = read_recording(options.file)
    config = _config(options, beginning)
    model = read_model_config(
        Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
    )
    fitting = fitting_events(events, model.vocab_size)
    tokenizer = _tokenizer(model, options.chat_format)
    when = datetime.fromtimestamp(beginning.time).astimezone().isoformat(timespec="seconds")
    print(f"recorded  {when}, glmserve {beginning.glmserve}, {_describe_runner(beginning.info)}")
    async with _runner(config) as (executor, info):
        if info.limits.token_capacity != beginning.info.limits.token_capacity:
            raise StartupError("this runner's KV cache differs in size from the recorded one")
        print(f"replayed  {_describe_runner(info)}", flush=True)
        if options.alone:
            return await _replay_alone(executor, info, fitting, tokenizer, options.file)
        comparison = await replay_steps(executor, fitting)
    if not comparison.num_steps:
        raise OptionError(f"{options.file}: this recording contains no step")
    return _report(comparison, tokenizer)


def _config(options: argparse.Namespace, beginning: Beginning) -> RunnerConfig:
    """The recorded config, with the options of this command line.

    Raises:
        OptionError: an option must not differ from the recording.
    """
    overrides = {k: v for k, v in vars(options).items() if k in RunnerConfig.__struct_fields__}
    for name in overrides.keys() & _RECORDED:
        raise OptionError(f"--{name.replace('_', '-')} is the recording's, and cannot be replaced")
    for name in overrides.keys() & _UNSUPPORTED:
        raise OptionError(f"--{name.replace('_', '-')} is not supported in a replay")
    overrides |= {
        k: str(overrides[k]) for k in ("checkpoint", "ptuning_checkpoint") if k in overrides
    }
    limits = beginning.info.limits
    return msgspec.structs.replace(
        beginning.config,
        **overrides,
        block_size=limits.block_size,
        kv_cache_tokens=limits.token_capacity,
        kv_cache_memory=None,
        gpu_memory_utilization=None,
        cpus=None,
        numa_node=None,
        num_machines=1,
        npu=npu_environment(os.environ),
    )


def _tokenizer(model: ModelConfig, chat_format: str | None) -> Tokenizer | None:
    """The tokenizer to show tokens as text, or None to show their ids."""
    from glmserve.text import load_tokenizer

    try:
        return load_tokenizer(model.path.parent, chat_format)
    except StartupError:
        return None


@asynccontextmanager
async def _runner(config: RunnerConfig) -> AsyncIterator[tuple[Executor, RunnerInfo]]:
    from glmserve.cli.announce import LoadingBar
    from glmserve.executor import ProcessExecutor

    executor = ProcessExecutor(config, SupervisionConfig())
    try:
        with closing(LoadingBar()) as bar:
            info = await executor.start(bar.update)
        yield executor, info
    except WorkerLostError:
        raise StartupError(f"the worker {await executor.wait_lost()}") from None
    finally:
        await executor.close()


async def _replay_alone(
    executor: Executor,
    info: RunnerInfo,
    events: Iterable[Event],
    tokenizer: Tokenizer | None,
    file: Path,
) -> int:
    from glmserve.trace import replay_alone

    num_requests = 0
    different: list[Difference] = []
    async for difference in replay_alone(executor, info.limits, events):
        num_requests += 1
        if difference is not None:
            different.append(difference)
    if not num_requests:
        raise OptionError(f"{file}: this recording contains no finished request")
    if not different:
        print(f"{num_requests} requests alone: all tokens are the same")
        return 0
    print(f"{len(different)} of {num_requests} requests alone differ; the first:")
    print(f"  {_describe(different[0], tokenizer)}")
    return 1


def _report(comparison: Comparison, tokenizer: Tokenizer | None) -> int:
    if comparison.largest_change:
        print(
            f"log-probabilities of equal tokens differ by at most {comparison.largest_change:.2g}"
        )
    if comparison.first is None:
        print(
            f"{comparison.num_steps} steps, {comparison.num_tokens} tokens: all tokens are the same"
        )
        return 0
    print(
        f"{comparison.num_different} of {comparison.num_tokens} tokens differ, in "
        f"{len(comparison.request_ids)} requests; the first:"
    )
    first = comparison.first
    print(f"  {_describe(first, tokenizer)}")
    print(f"  step {first.step_id}, row {first.row + 1} of {first.num_rows}")
    return 1


def _describe(difference: Difference, tokenizer: Tokenizer | None) -> str:
    request, position, recorded, replayed, *_ = difference
    return (
        f"request {request}, token {position} from its beginning: recorded "
        f"{_token(recorded, tokenizer)}, now {_token(replayed, tokenizer)}"
    )


def _token(token_id: int, tokenizer: Tokenizer | None) -> str:
    if token_id < 0:
        return "none (numbers that are not finite, or an earlier end)"
    if tokenizer is None or token_id >= tokenizer.vocab_size:
        return str(token_id)
    return f"{token_id} ({tokenizer.decode([token_id])!r})"


def _describe_runner(info: RunnerInfo) -> str:
    return f"{info.device}, {info.dtype}"
