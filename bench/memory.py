"""Memory that a server of ChatGLM2-6B's shape needs: while it loads, when it is ready, and at work.

    python bench/memory.py --folder /tmp/glm2-int4 --layout int4
    python bench/memory.py --folder /models/chatglm2-6b-int4 --serve "--kv-cache-dtype int8"

Takes the checkpoint in --folder; if there is none, one with random numbers in the layout of the
official checkpoints is written there first, and stays. Anonymous memory is what the processes
need; the rest is pages of files, which the system drops when memory gets scarce.
"""

from __future__ import annotations

import argparse
import random
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import get_args

from chatglm2_checkpoint import Layout, write_checkpoint
from local_server import LocalServer
from process_memory import Memory, tree_memory
from served import complete

_INTERVAL = 0.2  # seconds between two looks


class Peak:
    """The most that a process and its descendants have held at a time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.memory = Memory(0, 0)

    def look(self) -> None:
        now = tree_memory(self._pid)
        self.memory = Memory(*map(max, now, self.memory))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look again and again, on a thread."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_INTERVAL):
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look()


def main() -> None:
    options = parse_arguments()
    if not options.folder.exists():
        # In a process of its own, whose memory is given back.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--write-only"], check=True)
    files = sum(file.stat().st_size for file in options.folder.iterdir())
    print(f"files    {_gigabytes(files)}")
    started = time.perf_counter()
    arguments = ["--checkpoint", str(options.folder), *shlex.split(options.serve)]
    server = LocalServer(*arguments, "--skip-tokenizer-init", "--device", "cpu")
    loading, working = Peak(server.pid), Peak(server.pid)
    with ExitStack() as stack:
        with loading.watching():
            stack.enter_context(server)
        print(f"ready    after {time.perf_counter() - started:.1f} s")
        report("loading", loading.memory)
        report("ready", tree_memory(server.pid))
        with working.watching():
            for concurrency in options.concurrency:
                load(server, options, concurrency)
        report("working", working.memory)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="of the checkpoint")
    parser.add_argument("--layout", choices=get_args(Layout), default="int4", help="to write")
    parser.add_argument("--bin", action="store_true", help="write .bin files, not safetensors")
    parser.add_argument("--shard-bytes", type=int, default=2 * 10**9, help="of a weights file")
    parser.add_argument("--serve", default="", help="further options of glmserve serve")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, default=32)
    parser.add_argument("--write-only", action="store_true", help="write the checkpoint, and end")
    options = parser.parse_args()
    if options.write_only:
        write_checkpoint(options.folder, options.layout, options.shard_bytes, as_bin=options.bin)
        sys.exit(0)
    return options


def load(server: LocalServer, options: argparse.Namespace, concurrency: int) -> None:
    """Complete one prompt for each of `concurrency` requests, and print how fast that was."""
    rng = random.Random(concurrency)
    prompts = [
        [rng.randrange(100, 60000) for _ in range(options.prompt_tokens)]
        for _ in range(concurrency)
    ]
    served = complete(server.url, prompts, options.output_tokens, concurrency)
    print(
        f"load     {concurrency} at once: first token {served.first_token_ms:.0f} ms, then one "
        f"every {served.inter_token_ms:.0f} ms"
    )


def report(moment: str, memory: Memory) -> None:
    anonymous, total = _gigabytes(memory.anonymous), _gigabytes(memory.total)
    print(f"{moment:8} {anonymous} anonymous, {total} with files")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


if __name__ == "__main__":
    main()
