"""`glmserve generate`: texts for prompts of the command line, without a server."""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import msgspec

from glmserve.cli import values
from glmserve.cli.options import (
    add_checkpoint_options,
    add_device_options,
    add_load_format_option,
    config_of,
)
from glmserve.config import (
    AdapterConfig,
    RunnerConfig,
    SchedulerConfig,
    SupervisionConfig,
)
from glmserve.contract.sampling import Sampling
from glmserve.errors import AdapterError, GlmserveError, OptionError, StartupError
from glmserve.request import SamplingParams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from glmserve.engine import AdapterVersion, Engine
    from glmserve.model_config import ModelConfig
    from glmserve.text import Tokenizer
    from glmserve.text.chat_format import ChatFormat

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


_ANY_SIZE = 2**16
"""The room is made for the one adapter, whatever its size."""


def add_command(commands: Commands) -> None:
    """Add `generate` to the command line."""
    parser = commands.add_parser(
        "generate",
        help="generate texts without a server, and report how long it took",
        description="Generate an answer to each prompt, all of them at once, with the scheduler, "
        "KV cache and device that serve would use, and print the answers.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_model_options(parser)
    _add_prompt_options(parser)
    _add_answer_options(parser)
    add_device_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    add_checkpoint_options(group)
    add_load_format_option(group)
    group.add_argument(
        "--adapter",
        type=values.checkpoint,
        metavar="PATH",
        help="folder of a LoRA or prefix adapter that changes the model for all prompts, or its "
        "name on a hub",
    )
    group.add_argument(
        "--chat-format",
        metavar="NAME",
        help="prompt format of conversations; default: the format that the checkpoint's files name",
    )


def _add_prompt_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prompts")
    what = group.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--prompt",
        type=values.non_empty,
        nargs="+",
        metavar="TEXT",
        help="what the user says; several are answered at the same time",
    )
    what.add_argument(
        "--input-tokens",
        type=values.positive,
        metavar="N",
        help="random prompts of so many tokens, to measure; no text is printed",
    )
    group.add_argument(
        "--raw",
        action="store_true",
        help="continue the prompts as texts, instead of answering them as a conversation",
    )
    group.add_argument(
        "--batch-size",
        type=values.positive,
        default=1,
        metavar="N",
        help="with --input-tokens: number of prompts",
    )


def _add_answer_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("answers")
    group.add_argument(
        "--max-tokens",
        type=values.positive,
        default=256,
        metavar="N",
        help="longest answer",
    )
    group.add_argument(
        "--constant-output",
        action="store_true",
        help="generate --max-tokens tokens, whatever the model says about the end",
    )
    group.add_argument(
        "--temperature",
        type=values.temperature,
        default=0.0,
        metavar="T",
        help="0: always the most likely token",
    )
    group.add_argument(
        "--seed", type=values.seed, default=0, metavar="N", help="of random tokens, and of dummies"
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="print seconds and tokens per second: of the prompts (base), of all further tokens "
        "(incremental), and of both",
    )


def run(options: argparse.Namespace) -> None:
    """Generate and print.

    Raises:
        StartupError: the model cannot be loaded, or a prompt not be answered.
        OptionError: two options contradict each other.
    """
    if options.batch_size > 1 and options.prompt is not None:
        raise OptionError("--batch-size is for --input-tokens; give several texts to --prompt")
    if options.raw and options.prompt is None:
        raise OptionError("--raw is for --prompt")
    try:
        asyncio.run(_generate(options))
    except StartupError:
        raise
    except GlmserveError as error:  # what a server would answer to such a request
        raise StartupError(str(error)) from None


async def _generate(options: argparse.Namespace) -> None:
    from glmserve.cli.generated_texts import PrintedTexts, SilentTexts
    from glmserve.cli.text_layer import limit_vocabulary
    from glmserve.engine import SchedulingAttributes
    from glmserve.evaluation import generate
    from glmserve.model_config import read_model_config
    from glmserve.model_config.sharding import check_sizes

    runner = config_of(options, **_room_for_adapter(options))
    model = read_model_config(options.checkpoint, options.rope_scaling, runner.ptuning_checkpoint)
    check_sizes(model, runner.tensor_parallel_size, runner.pipeline_parallel_size)
    if options.prompt is None:
        prompts, printer = _random_prompts(options, model), SilentTexts()
        params = _params(options, frozenset(model.eos_token_ids))
    else:
        tokenizer, chat = _text_layer(options, model)
        runner = limit_vocabulary(runner, model, tokenizer)
        prompts = [_encode(text, tokenizer, chat) for text in options.prompt]
        stop_ids = {tokenizer.eos_id, *model.eos_token_ids, *(chat.stop_ids if chat else ())}
        params = _params(options, frozenset(stop_ids))
        printer = PrintedTexts(options.prompt, params, tokenizer, chat)
    async with _engine(runner, len(prompts), options) as engine:
        attributes = SchedulingAttributes(adapter=await _load_adapter(engine, options))
        timing = await generate(engine, prompts, params, printer.add, attributes)
        printer.finish()
        if options.report:
            print(f"device: {engine.info.device}, {engine.info.dtype}")
            print("\n".join(timing.lines()))


def _room_for_adapter(options: argparse.Namespace) -> dict[str, int]:
    """Fields of RunnerConfig. The adapter is read before the weights of the model are.

    Raises:
        StartupError: it is no adapter.
    """
    if options.adapter is None:
        return {}
    from glmserve.adapters import LoraConfig, read_adapter_config

    try:
        settings = read_adapter_config(options.adapter)
    except AdapterError as error:
        raise StartupError(f"--adapter: {error.message}") from None
    if isinstance(settings, LoraConfig):
        return {"max_adapters": 1, "max_lora_rank": settings.largest_rank}
    return {"max_adapters": 1, "max_lora_rank": 1, "max_prefix_length": settings.length}


async def _load_adapter(engine: Engine, options: argparse.Namespace) -> AdapterVersion | None:
    from glmserve.engine import AdapterCatalog

    if options.adapter is None:
        return None
    room = AdapterConfig(max_lora_rank=_ANY_SIZE, max_prefix_length=_ANY_SIZE)
    catalog = AdapterCatalog(engine.adapters, (), room)
    return await catalog.add("adapter", options.adapter)


def _params(options: argparse.Namespace, stop_ids: frozenset[int]) -> SamplingParams:
    return SamplingParams(
        max_tokens=options.max_tokens,
        sampling=Sampling(temperature=options.temperature),
        seed=options.seed,
        stop_token_ids=frozenset() if options.constant_output else stop_ids,
    )


def _text_layer(
    options: argparse.Namespace, model: ModelConfig
) -> tuple[Tokenizer, ChatFormat | None]:
    """The tokenizer, and the chat format unless the prompts are continued.

    Raises:
        CheckpointError: the checkpoint has no usable tokenizer or chat template.
    """
    from glmserve.text import load_tokenizer
    from glmserve.text.templates.selection import ChatOptions, select_format

    folder = model.path.parent
    tokenizer = load_tokenizer(folder, options.chat_format)
    if options.raw:
        return tokenizer, None
    return tokenizer, select_format(folder, tokenizer, ChatOptions(options.chat_format)).chat


def _encode(text: str, tokenizer: Tokenizer, chat: ChatFormat | None) -> list[int]:
    from glmserve.text.chat_format import ChatMessage

    if chat is None:
        return tokenizer.encode_prompt(text)
    return chat.render([ChatMessage("user", text)])


def _random_prompts(options: argparse.Namespace, model: ModelConfig) -> list[list[int]]:
    """Different prompts, so that the prefix cache saves nothing."""
    rng = random.Random(options.seed)
    marks = model.prompt_marks
    special = set() if marks is None else {marks.gmask_id, marks.mask_id, marks.sop_id}
    usable = [token for token in range(model.vocab_size) if token not in special]
    end = [] if marks is None else marks.shortest_prompt
    count = max(1, options.input_tokens - len(end))
    return [[*rng.choices(usable, k=count), *end] for _ in range(options.batch_size)]


@asynccontextmanager
async def _engine(
    runner: RunnerConfig, num_prompts: int, options: argparse.Namespace
) -> AsyncIterator[Engine]:
    """A started engine, closed at the end."""
    from glmserve.cli.announce import LoadingBar
    from glmserve.engine import Engine
    from glmserve.executor import ProcessExecutor

    runner = msgspec.structs.replace(runner, max_batch_size=num_prompts)
    executor = ProcessExecutor(runner, SupervisionConfig())
    scheduler = SchedulerConfig(max_batch_size=num_prompts, prefix_cache=options.prefix_cache)
    engine = Engine(executor, scheduler, hash_key=secrets.token_bytes(32))
    try:
        with closing(LoadingBar()) as bar:
            await engine.start(bar.update)
        yield engine
    finally:
        await engine.close()
