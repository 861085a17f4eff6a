"""glmserve against other servers and engines on the CPU, on the same model and load, in turn.

    bench/peers_install.sh vllm ~/peers/vllm
    python bench/peers.py --peers-folder ~/peers --shape S --rounds 5
    python bench/peers.py --peers-folder ~/peers --precision int4 --only llama.cpp openvino

Each peer has a Python environment of its own in the folder. All get the same random weights in the
format that each reads, the same number of threads, and fresh prompts of token ids that no cache
knows; answers end only by their length, and are counted. vLLM, llama.cpp and glmserve answer
through HTTP; the others are bare engines, timed within their own process.

A round measures every peer once, beginning with another one each time, and ratios are taken within
rounds. If memory holds all peers they stay up, stopped by SIGSTOP while it is not their turn;
otherwise each is started anew in every round. The roofline is that of the memory bandwidth and the
operations of this machine, measured before and after.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from peer_servers.registry import OURS, PEERS, why_not
from peer_servers.setup import Peer, Setup
from peers_rounds import Comparison
from step_floor import SHAPES
from transformers_ways import write_checkpoint


def main() -> None:
    options = parse_options()
    setup = make_setup(options)
    peers, missing = choose(options)
    for name, reason in missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
    comparison = Comparison(options, setup, peers, missing)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it ends its peers first
    comparison.run()
    print(comparison.table())


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers-folder", type=Path, required=True, help="has peers' environments")
    parser.add_argument("--models-folder", type=Path, help="default: models, beside the peers")
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--precision", choices=list(OURS.precisions), default="bfloat16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=128, help="of a prompt, and of its answer")
    parser.add_argument("--long-prompts", type=int, nargs="*", default=[512, 2048])
    parser.add_argument(
        "--together",
        action=argparse.BooleanOptionalAction,
        help="all peers stay up; default: if memory holds them",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every peer")
    return parser.parse_args()


def make_setup(options: argparse.Namespace) -> Setup:
    """Its checkpoint is written if it is not there."""
    models = options.models_folder or options.peers_folder / "models"
    setup = Setup(
        shape=SHAPES[options.shape],
        precision=options.precision,
        threads=options.threads,
        models=(models / options.shape).resolve(),
        most_tokens=max([2 * options.tokens, *(n + 16 for n in options.long_prompts)]),
        most_requests=max(options.concurrency),
    )
    if not setup.checkpoint.exists():  # in a process of its own, whose memory is given back
        writer = multiprocessing.get_context("spawn").Process(
            target=write_checkpoint, args=(setup.shape, setup.checkpoint)
        )
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit("the checkpoint could not be written")
    return setup


def choose(options: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """Who takes part, this server first; and why others do not."""
    wanted = [peer for peer in PEERS if not options.only or peer.name in options.only]
    reasons = {peer.name: why_not(peer, options.precision, options.peers_folder) for peer in wanted}
    missing = {name: reason for name, reason in reasons.items() if reason}
    return [OURS, *(peer for peer in wanted if not reasons[peer.name])], missing


if __name__ == "__main__":
    main()
