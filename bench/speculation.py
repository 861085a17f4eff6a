"""What --speculative-tokens gains where answers quote their prompts, and costs where they do not.

    python bench/speculation.py --always="--checkpoint /models/small --load-format dummy"

Random weights quote nothing, and their greedy text runs into loops, which would be too kind. But at
a high temperature a token follows more from the request's seed than from its prompt. So answers
are drawn, and drawn again from prompts of the same length that hold the first ones: the new answers
then quote their prompts, with another token here and there. Nothing in them repeats itself.

Servers with and without the option stay up; loads go to one, then to the other, A B A B. In float32
both should say the same; in bfloat16 two tokens are often as close as the rounding error.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import time
from itertools import pairwise
from statistics import median

import aiohttp

from local_server import LocalServer

_LOW, _HIGH = 100, 1000
"""Ids of prompts."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speculative-tokens", default="8", help="a number, or auto")
    parser.add_argument("--always", default="", help="what both servers are started with")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    always = ["--skip-tokenizer-init", *shlex.split(options.always)]
    speculating = ["--speculative-tokens", options.speculative_tokens]
    with LocalServer(*always) as without, LocalServer(*always, *speculating) as with_it:
        asyncio.run(compare(options, [without.url, with_it.url]))


async def compare(options: argparse.Namespace, urls: list[str]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        for concurrency in options.concurrency:
            rates: dict[str, list[list[float]]] = {"fresh": [], "quoting": []}
            quoted = []
            for number in range(options.rounds + 1):
                rng = random.Random(number)  # prompts that no prefix cache has seen
                prompts = [_ids(rng, options.prompt_tokens) for _ in range(concurrency)]
                answers = await take_turns(options, session, urls, prompts, rates["fresh"])
                prompts = [_around(rng, a, options.prompt_tokens) for a in answers]
                again = await take_turns(options, session, urls, prompts, rates["quoting"])
                quoted += [_shared_pairs(a, b) for a, b in zip(answers, again, strict=True)]
            print(f"{concurrency} at once; quoting, {median(quoted):.0%} of an answer's pairs of")
            print("neighbouring tokens are in its prompt. Tokens per second, medians:")
            for load, pairs in rates.items():
                _report(load, pairs[1:])  # the first round warms up


def _report(load: str, rates: list[list[float]]) -> None:
    without, with_it = (median(column) for column in zip(*rates, strict=True))
    ratios = [b / a for a, b in rates]
    print(
        f"  {load:<8} {without:8.1f} without, {with_it:8.1f} with: "
        f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )


async def take_turns(
    options: argparse.Namespace,
    session: aiohttp.ClientSession,
    urls: list[str],
    prompts: list[list[int]],
    rates: list[list[float]],
) -> list[list[int]]:
    """Answers to the prompts, all at once, from one server and then the other.

    Adds the tokens per second of both to `rates`.
    """
    answers, pair = [], []
    for url in urls:
        start = time.perf_counter()
        requests = (
            complete(options, session, url, prompt, seed) for seed, prompt in enumerate(prompts)
        )
        answers.append(await asyncio.gather(*requests))
        elapsed = time.perf_counter() - start
        pair.append(len(prompts) * options.output_tokens / elapsed)
    rates.append(pair)
    differing = sum(a != b for a, b in zip(*answers, strict=True))
    if differing:
        print(f"  ({differing} of {len(prompts)} answers differ)")
    return answers[0]


async def complete(
    options: argparse.Namespace,
    session: aiohttp.ClientSession,
    url: str,
    prompt: list[int],
    seed: int,
) -> list[int]:
    """The tokens of one answer."""
    async with session.get(f"{url}/v1/models") as response:
        model = (await response.json())["data"][0]["id"]
    body = {
        "model": model,
        "prompt": prompt,
        "seed": seed,
        "temperature": options.temperature,
        "max_tokens": options.output_tokens,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    async with session.post(f"{url}/v1/completions", json=body) as response:
        response.raise_for_status()
        token_ids: list[int] = (await response.json())["choices"][0]["token_ids"]
        return token_ids


def _ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(_LOW, _HIGH) for _ in range(count)]


def _around(rng: random.Random, answer: list[int], length: int) -> list[int]:
    """A prompt of `length` tokens that holds an answer."""
    before = rng.randrange(1, length - len(answer))
    return [*_ids(rng, before), *answer, *_ids(rng, length - len(answer) - before)]


def _shared_pairs(first: list[int], second: list[int]) -> float:
    """Which part of the second's neighbouring tokens are neighbours in the first."""
    known = set(pairwise(first))
    return sum(pair in known for pair in pairwise(second)) / (len(second) - 1)


if __name__ == "__main__":
    main()
