"""`glmserve bench accuracy`: compares quantised variants of a model with the plain model."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from glmserve.cli import values
from glmserve.cli.options import add_chat_format_option, npu_environment
from glmserve.config import (
    COMPILED_MANIFEST,
    EMBEDDED_CHECKPOINT,
    KvCacheDType,
    Quantization,
    RunnerConfig,
    SupervisionConfig,
)
from glmserve.errors import OptionError, StartupError
from glmserve.model_config import ModelConfig, read_model_config

if TYPE_CHECKING:
    from glmserve.evaluation import Reading, Window

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_WINDOW = 512
"""Maximum number of tokens that are read together, without their context."""
_KV_CACHE_DTYPES = [name for name in get_args(KvCacheDType) if name != "auto"]


def add_command(commands: Commands) -> None:
    """Add `accuracy` to the benchmarks."""
    parser = commands.add_parser(
        "accuracy",
        help="accuracy of quantised weights and KV caches, compared with the plain model",
        description="Let the model predict a text, first as it is, then with each of the given "
        "options, one at a time. Without options: with every --quantization and --kv-cache-dtype. "
        "Differences are means over all predicted tokens, in nats: of the token's log-probability, "
        "and the Kullback-Leibler divergence of the next token's distribution. Unlikely tokens are "
        "merged into one, so the printed divergence is a lower bound.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_model_options(parser)
    _add_way_options(parser)
    _add_text_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print a line for each variant; returns the exit code.

    Raises:
        OptionError: the model or the text has nothing to predict.
    """
    model = read_model_config(options.checkpoint)
    if model.prompt_marks is not None:
        raise OptionError(
            f"{model.path}: this model reads texts in both directions, so their tokens have no "
            "probabilities to compare"
        )
    windows = _read_windows(options, model)
    plain = RunnerConfig(
        checkpoint=str(options.checkpoint),
        device=options.device,
        dtype=options.dtype,
        threads=options.threads,
        npu=npu_environment(os.environ),
        kv_cache_tokens=2 * _WINDOW,
        max_batch_size=1,
        max_step_tokens=_WINDOW,
    )
    return asyncio.run(_compare_all(plain, list(_ways(options)), windows))


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=values.checkpoint,
        default=EMBEDDED_CHECKPOINT,
        metavar="PATH",
        help="local path of the model: a folder with config.json and weights",
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda, ...; auto: the first that works",
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="number format of activations, and of weights that are not quantised",
    )
    parser.add_argument("--threads", type=values.positive, metavar="N", help="CPU threads")


def _add_way_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ways to compare with the plain model")
    group.add_argument(
        "--quantization",
        nargs="+",
        choices=get_args(Quantization),
        default=[],
        help="values of serve --quantization to compare",
    )
    group.add_argument(
        "--kv-cache-dtype",
        nargs="+",
        choices=_KV_CACHE_DTYPES,
        default=[],
        help="values of serve --kv-cache-dtype to compare",
    )
    group.add_argument(
        "--converted",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="checkpoints and folders that glmserve convert and compile have made of this one",
    )


def _add_text_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="text to predict, UTF-8; default: the answers of Chinese and English conversations "
        "that come with glmserve and that glm-tiny was trained on",
    )
    add_chat_format_option(group)
    group.add_argument(
        "--tokens",
        type=values.positive,
        default=4000,
        metavar="N",
        help="read at most N tokens",
    )


_OF_THE_FOLDER = {
    "device": "auto",
    "dtype": "auto",
    "kv_cache_tokens": None,
    "max_step_tokens": None,
}
"""Options of a compiled folder, which decides them itself."""


def _ways(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yield the name of each variant, and the fields of RunnerConfig that it changes."""
    none_named = not (options.quantization or options.kv_cache_dtype or options.converted)
    for name in get_args(Quantization) if none_named else options.quantization:
        yield f"--quantization {name}", {"quantization": name}
    for name in _KV_CACHE_DTYPES if none_named else options.kv_cache_dtype:
        yield f"--kv-cache-dtype {name}", {"kv_cache_dtype": name}
    for path in options.converted:
        is_compiled = (path / COMPILED_MANIFEST).is_file()
        yield str(path), {"checkpoint": str(path), **(_OF_THE_FOLDER if is_compiled else {})}


def _read_windows(options: argparse.Namespace, model: ModelConfig) -> list[Window]:
    # Imported here, so that --help does not wait for it.
    from glmserve.evaluation import conversation_windows, text_windows
    from glmserve.text import load_tokenizer
    from glmserve.text.templates.selection import ChatOptions, select_format

    folder = model.path.parent
    tokenizer = load_tokenizer(folder, options.chat_format)
    window = min(_WINDOW, model.max_context)
    if options.text is None:
        chat = select_format(folder, tokenizer, ChatOptions(options.chat_format)).chat
        assert chat is not None  # but for an option that this command does not have
        windows = conversation_windows(tokenizer, chat, window, options.tokens)
        source = f"--tokens {options.tokens}"
    else:
        windows = text_windows(tokenizer, _read_text(options.text), window, options.tokens)
        source = f"--text {options.text}"
    if not windows:
        raise OptionError(f"{source}: too little to predict anything")
    return windows


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OptionError(f"--text {path}: is not UTF-8") from None


async def _compare_all(
    plain: RunnerConfig, ways: Sequence[tuple[str, dict[str, str | None]]], windows: list[Window]
) -> int:
    from glmserve.evaluation import compare

    exact = await _read("plain", plain, windows)
    width = max(len(name) for name, _ in ways)
    print(f"{len(exact.scores):,} tokens predicted in {exact.info.dtype}, on {exact.info.device}")
    print(
        f"{'':{width}}{'perplexity':>12}{'log-prob. off':>15}{'divergence':>12}{'other best':>12}"
        f"{'weights':>13}"
    )
    print(f"{'plain':{width}}{_perplexity(exact)}{'':39}{_weights(exact)}", flush=True)
    for name, change in ways:
        try:
            found = await _read(name, msgspec.structs.replace(plain, **change), windows)
        except StartupError as error:
            print(f"{name:{width}}  {error.message}", flush=True)
            continue
        cost = compare(found, exact)
        print(
            f"{name:{width}}{_perplexity(found)}{cost.change:15.5f}{cost.divergence:12.6f}"
            f"{cost.other_best:12.2%}{_weights(found)}",
            flush=True,
        )
    return 0


def _perplexity(reading: Reading) -> str:
    return f"{reading.perplexity:12.4f}"


def _weights(reading: Reading) -> str:
    return f"{reading.info.weight_bytes / 2**20:9,.1f} MiB"


async def _read(name: str, config: RunnerConfig, windows: list[Window]) -> Reading:
    from tqdm import tqdm

    from glmserve.cli.announce import LoadingBar
    from glmserve.evaluation import score
    from glmserve.executor import ProcessExecutor

    with (
        closing(LoadingBar()) as loading,
        tqdm(total=len(windows), desc=name, leave=False, disable=None) as bar,
    ):
        executor = ProcessExecutor(config, SupervisionConfig())
        return await score(executor, windows, loading.update, bar.update)
