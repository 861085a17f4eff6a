"""`glmserve bench load`: its options, and what it prints and writes."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from glmserve.cli.load_options import add_load_options
from glmserve.errors import OptionError, StartupError

if TYPE_CHECKING:
    from glmserve.load_test.run import LoadTest, Run
    from glmserve.load_test.workload import Conversation

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_MOST_KEPT = 0.99
"""Part of the requests that must keep the objectives for a rate to count as served."""


def add_command(commands: Commands) -> None:
    """Add `load` to the benchmarks."""
    parser = commands.add_parser(
        "load",
        help="load test of any server of OpenAI's API",
        description="Send streamed requests to a server and report throughput, time to first token "
        "and time between tokens; with --rates, for one rate after the other, and which of them "
        "the server keeps up with. Token counts are the server's own. It needs glmserve[bench].",
        epilog="Exit codes: 0; 1, a request has failed, or the server is not there; 2, an option "
        "is wrong.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add_load_options(parser)


def run(options: argparse.Namespace) -> int:
    """Test, or compare two results; returns the exit code.

    Raises:
        OptionError: an option is wrong.
        StartupError: the server cannot be asked.
    """
    try:
        import aiohttp
    except ImportError:
        raise OptionError("a load test needs aiohttp: pip install 'glmserve[bench]'") from None
    import uvloop

    from glmserve.load_test.comparison import compare

    _check(options)
    if options.compare is not None:
        print(compare(*options.compare))
        return 0
    try:
        summary = uvloop.run(_test(options))
    except (aiohttp.ClientError, OSError, LookupError) as error:
        raise StartupError(f"{options.url}: {error}") from None
    if options.json:
        options.json.write_text(json.dumps(_with_settings(options, summary), indent=2) + "\n")
    runs = summary.get("sweep", [summary])
    return 1 if any(run["errors"] for run in runs) else 0


def _check(options: argparse.Namespace) -> None:
    """Raise an OptionError if options contradict each other."""
    if options.csv and options.rates:
        raise OptionError("--csv is for one rate; with --rates use --json")
    if options.dataset is not None and (options.shared_prefix or options.endpoint != "chat"):
        raise OptionError(
            "--dataset has conversations of its own: leave out --shared-prefix and --endpoint"
        )
    if options.turns > 1 and options.endpoint == "completions":
        raise OptionError("--turns: completions have no turns; use --endpoint chat")


async def _test(options: argparse.Namespace) -> dict[str, Any]:
    """Warm up and test; the figures, which are printed as well."""
    from tqdm import tqdm

    from glmserve.load_test.run import LoadTest, first_model, open_session
    from glmserve.load_test.workload import Sampling

    async with open_session(options.api_key or "") as session:
        model = options.model or await first_model(session, options.url)
        sampling = Sampling(model, options.temperature, options.ignore_eos)
        rates = options.rates or [options.rate]
        conversations = _conversations(options)
        with tqdm(
            total=options.requests * len(rates) * options.turns, unit="req", disable=None
        ) as bar:
            test = LoadTest(
                session, options.url, options.endpoint, sampling, lambda _: bar.update() and None
            )
            warm_up = LoadTest(session, options.url, options.endpoint, sampling, lambda _: None)
            await warm_up.closed(islice(conversations, options.warmup), 1)
            if not options.rates:
                return await _one(options, test, conversations)
            return await _sweep(options, test, conversations)


async def _one(
    options: argparse.Namespace, test: LoadTest, conversations: Iterator[Conversation]
) -> dict[str, Any]:
    from glmserve.load_test.summary import summarise, table, write_csv

    plan = list(islice(conversations, options.requests))
    if options.rate:
        run = await test.open(plan, options.rate, random.Random(options.seed))
    else:
        run = await test.closed(iter(plan), min(options.concurrency, len(plan)))
    summary = summarise(run, options.slo or ())
    print(table(summary))
    if options.csv:
        with options.csv.open("w", newline="") as file:
            write_csv(run.results, file)
    if options.plot:
        from glmserve.load_test.pictures import plot

        title = f"{options.url}: {summary['output_tokens_per_second']} tokens/s"
        plot(run.results, title, options.plot)
    return summary


async def _sweep(
    options: argparse.Namespace, test: LoadTest, conversations: Iterator[Conversation]
) -> dict[str, Any]:
    """One rate after the other, from the lowest."""
    from glmserve.load_test.summary import summarise, sweep_row, sweep_title

    runs: list[dict[str, Any]] = []
    print(sweep_title())
    for rate in sorted(options.rates):
        plan = list(islice(conversations, options.requests))
        run: Run = await test.open(plan, rate, random.Random(options.seed))
        runs.append({"rate": rate, **summarise(run, options.slo or ())})
        print(sweep_row(runs[-1]), flush=True)
    best = _best(runs)
    if options.slo:
        print(
            f"best rate within the objectives: {best:g} conversations/s"
            if best is not None
            else "no rate keeps the objectives"
        )
    if options.plot:
        from glmserve.load_test.pictures import plot_sweep

        plot_sweep(runs, options.url, options.plot)
    return {"sweep": runs, "best_rate": best}


def _best(runs: Sequence[dict[str, Any]]) -> float | None:
    """The highest rate at which nearly all requests keep the objectives."""
    kept = [run["rate"] for run in runs if run.get("good_share", 0.0) >= _MOST_KEPT]
    return max(kept, default=None)


def _conversations(options: argparse.Namespace) -> Iterator[Conversation]:
    from glmserve.load_test.datasets import read_conversations, repeated
    from glmserve.load_test.workload import Shape, random_conversations

    rng = random.Random(options.seed)
    if options.dataset is not None:
        found = read_conversations(
            options.dataset, lambda: options.output_tokens(rng), options.turns
        )
        return repeated(found, rng)
    shape = Shape(
        options.prompt_tokens,
        options.output_tokens,
        options.turns,
        options.shared_prefix,
        options.prefixes,
        tuple(options.token_ids),
    )
    return random_conversations(shape, options.endpoint, rng)


def _with_settings(options: argparse.Namespace, summary: dict[str, Any]) -> dict[str, Any]:
    """The summary, and what was asked for, so that a result can be read on its own."""
    names = [
        *("url", "model", "endpoint", "requests", "concurrency", "rate", "rates", "turns"),
        *("shared_prefix", "prefixes", "ignore_eos", "temperature", "seed"),
    ]
    settings = {name: getattr(options, name) for name in names}
    return {"settings": settings, "command": _without_key(sys.argv[1:]), **summary}


def _without_key(arguments: list[str]) -> list[str]:
    """The command line without the API key."""
    hidden = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--api-key" and place + 1 < len(arguments):
            hidden[place + 1] = "..."
        elif argument.startswith("--api-key="):
            hidden[place] = "--api-key=..."
    return hidden
