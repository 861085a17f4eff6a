"""What smaller numbers cost in accuracy: log-probabilities of a text, with and without them.

    python bench/accuracy.py [--checkpoint FOLDER] [--dtype bfloat16] [FILE ...]
    python bench/accuracy.py --quantization int4 w8a8 --kv-cache-dtype int8
    python bench/accuracy.py --converted FOLDER

Every token of the files is predicted from those before it: once by the checkpoint as it is, and
once by each way that is named, one at a time; without names by every --quantization and
--kv-cache-dtype there is. Without files the text is what glm-tiny learnt to answer; its questions
are read, and not predicted.
"""

from __future__ import annotations

import argparse
import math
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np

import glmserve
from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    KvCacheDType,
    Quantization,
    RunnerConfig,
    report_nothing,
)
from glmserve.devices.registry import select_device
from glmserve.errors import StartupError
from glmserve.step import Runner, ScheduledSequence, ScoreInput, StepInput, StepOutput
from glmserve.text import (
    ChatMessage,
    Tokenizer,
    load_tokenizer,
    read_name_hints,
    select_chat_format,
)

TEXTS = Path(glmserve.__file__).parent / "assets" / "training" / "text"
KV_CACHE_DTYPES = [name for name in get_args(KvCacheDType) if name != "auto"]


class Window(NamedTuple):
    """A piece of text that is read without what is around it."""

    ids: list[int]
    first: int
    """The first token to predict; at least 1."""


class Scores(NamedTuple):
    """Of all tokens to predict."""

    logprobs: np.ndarray
    """Of the text's own tokens, in nats."""
    best: np.ndarray
    """The most likely id in each place."""

    @property
    def perplexity(self) -> float:
        return math.exp(-self.logprobs.mean())


@dataclass(frozen=True)
class Cost:
    """How scores differ from exact ones."""

    mean_change: float
    """Of a log-probability, without its sign."""
    max_change: float
    other_best: float
    """Share of the places where another token is the most likely."""


def main() -> None:
    options = parse_arguments()
    windows = read_windows(options)
    exact_config = RunnerConfig(
        checkpoint=str(options.checkpoint),
        device=options.device,
        dtype=options.dtype,
        kv_cache_tokens=2 * options.window,
        max_batch_size=1,
        max_step_tokens=options.window,
    )
    exact = score(exact_config, windows)
    print(f"{len(exact.best)} tokens, perplexity {exact.perplexity:.4f}")
    for name, change in ways(options):
        try:
            found = score(msgspec.structs.replace(exact_config, **change), windows)
        except StartupError as error:
            print(f"{name}: {error.message}")
            continue
        cost = compare(found, exact)
        print(
            f"{name}: perplexity {found.perplexity:.4f}, log-probabilities off by "
            f"{cost.mean_change:.2e} on average and {cost.max_change:.2e} at most, another most "
            f"likely token in {cost.other_best:.2%} of places"
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=EMBEDDED_CHECKPOINT)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="w8a8 needs bfloat16")
    parser.add_argument("--quantization", nargs="+", choices=get_args(Quantization), default=[])
    parser.add_argument("--kv-cache-dtype", nargs="+", choices=KV_CACHE_DTYPES, default=[])
    parser.add_argument(
        "--converted",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="what glmserve convert made of the checkpoint",
    )
    parser.add_argument("--window", type=int, default=512, help="tokens in one piece of text")
    parser.add_argument("--tokens", type=int, default=20_000, help="of text at most")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    if not (options.quantization or options.kv_cache_dtype or options.converted):
        options.quantization, options.kv_cache_dtype = get_args(Quantization), KV_CACHE_DTYPES
    return options


def ways(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, str]]]:
    """Name of each way to compare, and the fields of RunnerConfig that it changes."""
    for name in options.quantization:
        yield f"--quantization {name}", {"quantization": name}
    for name in options.kv_cache_dtype:
        yield f"--kv-cache-dtype {name}", {"kv_cache_dtype": name}
    for name in options.converted:
        yield name, {"checkpoint": name}


def read_windows(options: argparse.Namespace) -> list[Window]:
    """The texts as token ids, cut into windows."""
    tokenizer = load_tokenizer(options.checkpoint, None)
    if not options.files:
        return first_windows(conversations(tokenizer), options.tokens)
    ids = [t for file in options.files for t in tokenizer.encode(file.read_text(encoding="utf-8"))]
    ids = ids[: options.tokens]
    return [Window(ids[i : i + options.window], 1) for i in range(0, len(ids) - 1, options.window)]


def first_windows(windows: Iterator[Window], most_tokens: int) -> list[Window]:
    """As many as hold no more tokens together."""
    found, total = [], 0
    for window in windows:
        total += len(window.ids)
        if total > most_tokens:
            break
        found.append(window)
    return found


def conversations(tokenizer: Tokenizer) -> Iterator[Window]:
    """Questions and answers as glm-tiny reads them; those with slots to fill are left out."""
    chat = select_chat_format(read_name_hints(EMBEDDED_CHECKPOINT), tokenizer, None)
    for file in sorted(TEXTS.glob("*.toml")):
        for intent in tomllib.loads(file.read_text(encoding="utf-8")).values():
            if not isinstance(intent, dict):
                continue
            for question in intent.get("often", ()):
                answer = intent["say"][0]
                if "{" not in question + answer:
                    prompt = chat.render([ChatMessage("user", question)])
                    yield Window(prompt + tokenizer.encode(answer), len(prompt))


def score(config: RunnerConfig, windows: list[Window]) -> Scores:
    runner = select_device(config.device).create_runner(config, report_nothing)
    if runner.info.limits.prompt_marks is not None:
        sys.exit("this model reads texts in both directions: their tokens have no probabilities")
    try:
        scored = [
            item for window in windows for item in read(runner, window.ids)[window.first - 1 :]
        ]
    finally:
        runner.close()
    return Scores(
        np.array([item.logprob for item in scored]),
        np.array([item.top_ids[0] for item in scored]),
    )


def read(runner: Runner, ids: list[int]) -> list[Any]:
    """Scores of all tokens but the first, computed a quarter of the window at a time.

    So most of what a token attends to has been through the cache.
    """
    block_size = runner.info.limits.block_size
    table = np.arange(-(-len(ids) // block_size), dtype=np.int32).tobytes()
    chunk, found = math.ceil(len(ids) / 4), []
    for start in range(0, len(ids), chunk):
        part = ids[start : start + chunk]
        wanted = ScoreInput(ids[start + 1 : start + 1 + len(part)], 1)
        sequence = ScheduledSequence(0, part, start, table, None, wanted)
        output = runner.execute(StepInput(start, [sequence]))
        output = output if isinstance(output, StepOutput) else output()
        found += output.scores[0]
    return found


def compare(found: Scores, exact: Scores) -> Cost:
    change = np.abs(found.logprobs - exact.logprobs)
    return Cost(change.mean(), change.max(), (found.best != exact.best).mean())


if __name__ == "__main__":
    main()
