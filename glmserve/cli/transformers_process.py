"""Starts the process in which transformers answers prompts."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from glmserve.cli.compute_process import command_of
from glmserve.config import TransformersAnswers, TransformersTask
from glmserve.contract.wire import decode_json, encode_json
from glmserve.errors import OptionError, StartupError
from glmserve.process.torch_environment import prepare_for_torch

_PREFIX = "glmserve: error: "


def check_transformers() -> None:
    """Find out early whether transformers is there.

    Raises:
        OptionError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise OptionError(
            "--against transformers: it is not installed; run pip install 'glmserve[bench]'"
        )


async def answer_with_transformers(task: TransformersTask, *, debug: bool) -> TransformersAnswers:
    """Let transformers answer the prompts in a process of its own.

    Raises:
        StartupError: it cannot load this model, or it failed; the message is its error.
    """
    prepare_for_torch()
    process = await asyncio.create_subprocess_exec(
        *command_of("glmserve.golden.transformers_texts", debug=debug),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=None if debug else asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate(encode_json(task))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = (errors or b"").decode(errors="replace").splitlines()
        reason = lines[-1].removeprefix(_PREFIX) if lines else "see above"
        raise StartupError(f"{reason} (exit code {process.returncode} of transformers' process)")
    return decode_json(output, TransformersAnswers)
