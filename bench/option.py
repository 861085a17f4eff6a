"""What an option of `glmserve serve` costs or gains: servers with and without it, in turn.

    python bench/option.py --option=--deterministic
    python bench/option.py --option="--kv-cache-dtype int8" --always="--dtype bfloat16"

Both servers stay up; loads go to one, then to the other, A B A B, so that ratios hold on a machine
whose speed drifts.
"""

from __future__ import annotations

import argparse
import random
import shlex
from statistics import median

from local_server import LocalServer
from served import complete


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--option", required=True, help="what the second server is started with")
    parser.add_argument("--always", default="", help="what both are started with")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    always = shlex.split(options.always)
    with (
        LocalServer(*always) as without,
        LocalServer(*always, *shlex.split(options.option)) as with_it,
    ):
        for concurrency in options.concurrency:
            ratios = compare(options, concurrency, [without.url, with_it.url])
            print(
                f"{concurrency} at once: {median(ratios):.3f} of the tokens per second with "
                f"{options.option} ({min(ratios):.3f} to {max(ratios):.3f})"
            )


def compare(options: argparse.Namespace, concurrency: int, urls: list[str]) -> list[float]:
    """Tokens per second of the second server over the first's, in each round."""
    ratios = []
    for number in range(options.rounds + 1):
        rng = random.Random(number)  # prompts that no prefix cache has seen
        prompts = [
            [rng.randrange(100, 1000) for _ in range(options.prompt_tokens)]
            for _ in range(concurrency)
        ]
        without, with_it = (
            complete(url, prompts, options.output_tokens, concurrency).tokens_per_second
            for url in urls
        )
        if number:  # the first round warms up
            ratios.append(with_it / without)
    return ratios


if __name__ == "__main__":
    main()
