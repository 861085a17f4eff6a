"""What a smaller KV cache costs in accuracy: log-probabilities of a text, by --kv-cache-dtype.

    python bench/kv_cache_dtype.py [--checkpoint FOLDER] [--device cuda] [FILE ...]

Every token of the files is predicted from those before it, once with K and V kept exactly and once
for each dtype the device has. Without files: the questions that glm-tiny learnt, with its answers.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import glmserve
from glmserve.config import EMBEDDED_CHECKPOINT, RunnerConfig, report_nothing
from glmserve.devices.registry import select_device
from glmserve.errors import OptionError
from glmserve.step import Runner, ScheduledSequence, ScoreInput, StepInput, StepOutput
from glmserve.text import (
    ChatMessage,
    Tokenizer,
    load_tokenizer,
    read_name_hints,
    select_chat_format,
)

TEXTS = Path(glmserve.__file__).parent / "assets" / "training" / "text"


class Scores(NamedTuple):
    logprobs: np.ndarray
    """Of the text's own tokens."""
    best: np.ndarray
    """The most likely id in each place."""
    token_bytes: float
    """Of the KV cache."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=EMBEDDED_CHECKPOINT)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--window", type=int, default=512, help="tokens in one piece of text")
    parser.add_argument("--tokens", type=int, default=20_000, help="of text at most")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    windows = read_windows(options)
    exact = score(options, windows, "auto")
    print(f"{sum(map(len, windows))} tokens, perplexity {perplexity(exact):.4f} with exact K and V")
    for kind in ("int8", "fp8"):
        try:
            found = score(options, windows, kind)
        except OptionError as error:
            print(f"{kind}: {error.message}")
            continue
        change = np.abs(found.logprobs - exact.logprobs)
        print(
            f"{kind}: {exact.token_bytes / found.token_bytes:.2f}x the tokens, perplexity "
            f"{perplexity(found):.4f}, log-probabilities off by {change.mean():.2e} on average and "
            f"{change.max():.2e} at most, another most likely token in "
            f"{(found.best != exact.best).mean():.2%} of places"
        )


def read_windows(options: argparse.Namespace) -> list[list[int]]:
    """The texts as token ids, cut into windows."""
    tokenizer = load_tokenizer(options.checkpoint, None)
    if not options.files:
        return list(conversations(tokenizer))
    ids = [t for file in options.files for t in tokenizer.encode(file.read_text(encoding="utf-8"))]
    ids = ids[: options.tokens]
    return [ids[i : i + options.window] for i in range(0, len(ids) - 1, options.window)]


def conversations(tokenizer: Tokenizer) -> Iterator[list[int]]:
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
                    yield prompt + tokenizer.encode(answer)


def score(options: argparse.Namespace, windows: list[list[int]], kind: Any) -> Scores:
    config = RunnerConfig(
        checkpoint=str(options.checkpoint),
        device=options.device,
        dtype=options.dtype,
        kv_cache_dtype=kind,
        kv_cache_tokens=2 * options.window,
        max_batch_size=1,
        max_step_tokens=options.window,
    )
    runner = select_device(config.device).create_runner(config, report_nothing)
    try:
        scored = [item for window in windows for item in read(runner, window)]
        limits = runner.info.limits
        token_bytes = runner.info.kv_cache_bytes / limits.token_capacity
    finally:
        runner.close()
    return Scores(
        np.array([item.logprob for item in scored]),
        np.array([item.top_ids[0] for item in scored]),
        token_bytes,
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


def perplexity(scores: Scores) -> float:
    return math.exp(-scores.logprobs.mean())


if __name__ == "__main__":
    main()
