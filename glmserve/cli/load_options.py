"""The options of `glmserve bench load`."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import values
from glmserve.load_test.goal import goal
from glmserve.load_test.lengths import length


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add them all."""
    _add_server(parser.add_argument_group("server"))
    _add_load(parser.add_argument_group("load"))
    _add_requests(parser.add_argument_group("requests"))
    _add_results(parser.add_argument_group("results"))


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--url", default="http://127.0.0.1:8000", metavar="URL", help="the server's, without /v1"
    )
    group.add_argument("--model", metavar="NAME", help="default: the first of /v1/models")
    group.add_argument("--api-key", metavar="KEY", help="default: none")
    group.add_argument(
        "--endpoint",
        choices=("chat", "completions"),
        default="chat",
        help="chat: prompts of words; completions: prompts of token ids, with exact lengths",
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--requests",
        type=values.positive,
        default=64,
        metavar="N",
        help="conversations, at each rate",
    )
    group.add_argument(
        "--warmup",
        type=values.non_negative,
        default=2,
        metavar="N",
        help="conversations before them that are not counted",
    )
    arrivals = group.add_mutually_exclusive_group()
    arrivals.add_argument(
        "--concurrency",
        type=values.positive,
        default=16,
        metavar="N",
        help="users, each beginning its next conversation when the last one is over",
    )
    arrivals.add_argument(
        "--rate",
        type=_rate,
        metavar="R",
        help="Poisson arrivals of R conversations per second, answered or not",
    )
    arrivals.add_argument(
        "--rates",
        type=_rate,
        nargs="+",
        metavar="R",
        help="one rate after the other; with --slo, the best of them is found",
    )
    group.add_argument(
        "--slo",
        type=goal,
        action="append",
        metavar="METRIC:MS",
        help="objective for each request, such as ttft:500 or tpot:50 or duration:9000; requests "
        "that keep all of them are good",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of lengths, prompts and arrivals",
    )


def _add_requests(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset",
        type=Path,
        metavar="FILE",
        help="conversations of a file: ShareGPT's JSON, or JSON lines with prompt or messages; "
        "default: random words",
    )
    group.add_argument(
        "--turns",
        type=values.positive,
        default=1,
        metavar="N",
        help="questions of a conversation, each after the answers to those before it",
    )
    group.add_argument(
        "--shared-prefix",
        type=values.non_negative,
        default=0,
        metavar="TOKENS",
        help="tokens with which a conversation begins as others do, before --prompt-tokens",
    )
    group.add_argument(
        "--prefixes",
        type=values.positive,
        default=1,
        metavar="N",
        help="how many different ones there are",
    )
    group.add_argument(
        "--prompt-tokens",
        type=length,
        default="128",
        metavar="LENGTH",
        help="of a question: 128, uniform:64:256 or normal:128:32",
    )
    group.add_argument(
        "--output-tokens",
        type=length,
        default="128",
        metavar="LENGTH",
        help="the most of an answer",
    )
    group.add_argument(
        "--token-ids",
        type=values.non_negative,
        nargs=2,
        default=(100, 1000),
        metavar=("LOW", "HIGH"),
        help="range of random ids for completions",
    )
    group.add_argument(
        "--ignore-eos", action="store_true", help="let all answers have all their tokens"
    )
    group.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="of all requests"
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    group.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a line for each request; not with --rates"
    )
    group.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw a picture; with --rates, of latency over load",
    )
    group.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar="FILE",
        help="test nothing: compare two files of --json",
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate, such as 2.5")
    return rate
