"""Rounds over all peers, and the report as far as they have come."""

from __future__ import annotations

import argparse
import json
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
from peer_servers.registry import OURS
from peer_servers.running import PeerError, Running, free_port, start
from peer_servers.setup import Peer, Setup
from peers_report import Memory, best_possible, summarise, table

_OVERHEAD_BYTES = 1.5e9
"""Of a peer, besides its weights."""
Round = dict[str, dict[str, float]]


class Comparison:
    """Some peers, one of them this project's own, under the same loads in turn."""

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
