"""The prompts of `glmserve generate`: of the command line, of files, of stdin, or random ones."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.errors import OptionError

if TYPE_CHECKING:
    from glmserve.model_config import ModelConfig

_STDIN = Path("-")


def read_prompts(options: argparse.Namespace) -> list[str]:
    """The texts that the command line gives in one of its ways; stdin if it gives none.

    Raises:
        OptionError: there is none, there are some in two ways, or one is no text.
    """
    ways = [options.text or None, options.prompt, options.file]
    given = [way for way in ways if way is not None]
    if len(given) > 1:
        raise OptionError("give prompts in one way: as TEXT, by --prompt or by --file")
    if options.text or options.prompt:
        texts: list[str] = given[0]
    elif options.file or not sys.stdin.isatty():
        texts = [_read(path) for path in options.file or [_STDIN]]
    else:
        raise OptionError("there is no prompt: give a TEXT, --file, --input-tokens, or a pipe")
    if not all(texts):
        raise OptionError("a prompt is empty")
    return texts


def random_prompts(options: argparse.Namespace, model: ModelConfig) -> list[list[int]]:
    """Different prompts of token ids, so that the prefix cache saves nothing."""
    rng = random.Random(options.seed)
    marks = model.prompt_marks
    special = set() if marks is None else {marks.gmask_id, marks.mask_id, marks.sop_id}
    usable = [token for token in range(model.vocab_size) if token not in special]
    end = [] if marks is None else marks.shortest_prompt
    count = max(1, options.input_tokens - len(end))
    return [[*rng.choices(usable, k=count), *end] for _ in range(options.batch_size)]


def _read(path: Path) -> str:
    """A whole file as one prompt, without the line end behind it."""
    try:
        data = sys.stdin.buffer.read() if path == _STDIN else path.read_bytes()
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise OptionError(f"{_name(path)} is not UTF-8") from None
    except OSError as error:
        raise OptionError(f"--file {path}: {error.strerror}") from None


def _name(path: Path) -> str:
    return "stdin" if path == _STDIN else f"--file {path}"
