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
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cpu_ceilings import CpuCeilings
from peer_servers.loads import Load, figures
from peer_servers.registry import OURS, PEERS, why_not
from peer_servers.running import PeerError, Running, free_port, start
from peer_servers.setup import Peer, Setup
from peers_report import Memory, best_possible, summarise, table
from transformers_ways import SHAPES, write_checkpoint

_OVERHEAD_BYTES = 1.5e9
"""Of a peer, besides its weights."""
Round = dict[str, dict[str, float]]


def main() -> None:
    options = parse_options()
    setup = make_setup(options)
    peers, missing = choose(options)
    for name, reason in missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
    comparison = Comparison(options, setup, peers, missing)
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


class Comparison:
    """Rounds over all peers, as far as they have come."""

    def __init__(
        self,
        options: argparse.Namespace,
        setup: Setup,
        peers: Sequence[Peer],
        missing: dict[str, str],
    ) -> None:
        self._options, self._setup = options, setup
        self._peers, self._missing = list(peers), missing
        self._figures = figures(options.concurrency, options.tokens, options.long_prompts)
        self._loads = list(dict.fromkeys(figure.load for figure in self._figures))
        self._rounds: list[Round] = []
        self._memory = Memory()
        self._rng = random.Random()
        self._ceilings: list[CpuCeilings] = []

    def run(self) -> None:
        for peer in self._peers:
            peer.prepare(self._setup, self._folder(peer))
        self._measure_ceilings()
        with tempfile.TemporaryDirectory() as logs:
            if self._together():
                self._run_together(Path(logs))
            else:
                self._run_one_at_a_time(Path(logs))
        self._measure_ceilings()
        self._save()

    def table(self) -> str:
        return table(self._figures, self._summary(), self._best(), self._memory)

    def _run_together(self, logs: Path) -> None:
        with ExitStack() as stack:
            up: dict[str, Running] = {}
            for peer in list(self._peers):
                with self._dropping(peer):
                    up[peer.name] = stack.enter_context(self._started(peer, logs))
                    up[peer.name].pause()
            for number in range(self._options.rounds):
                self._rounds.append({})
                for load in self._loads:
                    for peer in self._order(number):
                        with self._dropping(peer), _awake(up[peer.name]) as running:
                            self._measure(peer, running, load)

    def _run_one_at_a_time(self, logs: Path) -> None:
        for number in range(self._options.rounds):
            self._rounds.append({})
            for peer in self._order(number):
                with self._dropping(peer), self._started(peer, logs) as running:
                    for load in self._loads:
                        self._measure(peer, running, load)

    @contextmanager
    def _started(self, peer: Peer, logs: Path) -> Iterator[Running]:
        """Ready, and warmed up by a short form of every load."""
        launch = peer.launch(self._setup, self._folder(peer), free_port())
        running = start(launch, logs / f"{peer.name}.log")
        try:
            self._memory.is_ready(peer.name, running.memory())
            for load in self._loads:
                few = min(load.output_tokens, 8)
                running.complete(load.prompts(self._rng), few)
            yield running
        finally:
            running.close()

    def _measure(self, peer: Peer, running: Running, load: Load) -> None:
        served = running.complete(load.prompts(self._rng), load.output_tokens)
        found = self._rounds[-1].setdefault(peer.name, {})
        for figure in self._figures:
            if figure.load == load:
                found[figure.title] = figure.value(served)
        self._memory.has_worked(peer.name, running.memory())
        self._save()

    @contextmanager
    def _dropping(self, peer: Peer) -> Iterator[None]:
        """A peer that fails takes no part any more; this server must not fail."""
        try:
            yield
        except PeerError as error:
            print(f"{peer.name} failed: {error}", file=sys.stderr)
            if peer is OURS:
                raise SystemExit(1) from None
            self._missing[peer.name] = f"failed: {str(error).splitlines()[-1]}"
            self._peers.remove(peer)

    def _order(self, number: int) -> list[Peer]:
        """Another one first in each round."""
        first = number % len(self._peers)
        return self._peers[first:] + self._peers[:first]

    def _together(self) -> bool:
        if self._options.together is not None:
            return bool(self._options.together)
        weights = sum(path.stat().st_size for path in self._setup.checkpoint.glob("*.safetensors"))
        return len(self._peers) * (2 * weights + _OVERHEAD_BYTES) < _available_memory()

    def _folder(self, peer: Peer) -> Path:
        folder: Path = self._options.peers_folder.resolve() / peer.name
        return folder

    def _measure_ceilings(self) -> None:
        """In a process of its own, which leaves no threads behind."""
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "ceilings.json"
            program = Path(__file__).with_name("cpu_ceilings.py")
            threads = str(self._options.threads)
            command = [sys.executable, str(program), "--threads", threads, "--json", str(found)]
            environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
            subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
            self._ceilings.append(CpuCeilings(**json.loads(found.read_text())))

    def _best(self) -> dict[str, float]:
        """By the best that was measured: a ceiling is one only if nothing was faster."""
        ceilings = CpuCeilings(*(max(values) for values in zip(*self._ceilings, strict=True)))
        return best_possible(self._figures, self._setup.shape, self._setup.precision, ceilings)

    def _summary(self) -> dict[str, Any]:
        return summarise(self._figures, self._rounds, OURS.name, self._best())

    def _save(self) -> None:
        """Each time: a limit may end this before its end."""
        if not self._options.json:
            return
        settings = ("shape", "precision", "threads", "rounds", "tokens")
        peers = {peer.name: peer.precisions[self._options.precision] for peer in self._peers}
        report = {
            "settings": {key: getattr(self._options, key) for key in settings},
            "precisions": peers,
            "missing": self._missing,
            "ceilings": [found._asdict() for found in self._ceilings],
            "roofline": self._best(),
            "peers": self._summary(),
            "memory": {"ready": self._memory.ready, "loaded": self._memory.loaded},
            "rounds": self._rounds,
        }
        self._options.json.write_text(json.dumps(report, indent=2) + "\n")


@contextmanager
def _awake(running: Running) -> Iterator[Running]:
    running.resume()
    try:
        yield running
    finally:
        running.pause()


def _available_memory() -> int:
    """Bytes, without swapping."""
    text = Path("/proc/meminfo").read_text()
    return 1024 * int(text.partition("MemAvailable:")[2].split()[0])


if __name__ == "__main__":
    main()
