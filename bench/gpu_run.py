"""Runs the stages of bench/gpu.sh, and goes on where an earlier call has ended.

    bench/gpu.sh [OUT] [STAGE ...] [--seconds N] [--practice]
    bench/gpu.sh --list

Each command is a process of its own with its own time limit. OUT/state.json says what has become of
each, so a call with the same OUT runs what has not passed yet: first what was never tried.
OUT/rows.jsonl has all figures, one a line, each written as soon as it is measured; OUT/log.txt has
all output. A summary of at most 4 KB comes last. Exit code 0: all of these stages have passed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_stages.process import run
from gpu_stages.stages import Command, as_process, commands
from gpu_stages.state import OUT_OF_TIME, State
from gpu_stages.summary import summary, write_report

_LEAST = 10
"""Seconds that must be left for a command to be started."""
_DEFAULT_OUT = Path(__file__).parent / "results" / "gpu"


def main() -> int:
    options = parse_options()
    out: Path = options.out.resolve()
    rows = out / "rows.jsonl"
    wanted = chosen(commands(rows, practice=options.practice), options.stages)
    if options.list:
        for command in wanted:
            print(f"{command.name:<32}{command.limit:>5.0f} s  {' '.join(command.arguments)}")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    if options.practice:
        os.environ["TRITON_INTERPRET"] = "1"
    state = State(out / "state.json")
    names = [command.name for command in wanted]
    run_all(in_order(wanted, state), state, out, time.monotonic() + options.seconds)
    write_report(out, names)
    print(summary(out, names))
    return 0 if all(n in state.outcomes and state.outcomes[n].passed for n in names) else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", nargs="?", type=Path, default=_DEFAULT_OUT, metavar="OUT")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="default: all; see --list")
    parser.add_argument("--seconds", type=float, default=570, help="for all of them (default: 570)")
    parser.add_argument("--list", action="store_true", help="say what would run, and end")
    parser.add_argument("--practice", action="store_true", help="without a GPU, on small shapes")
    return parser.parse_args()


def chosen(every: Sequence[Command], names: Sequence[str]) -> list[Command]:
    """The commands of these stages, each given by its name or with one of its commands.

    Raises:
        SystemExit: there is no such stage.
    """
    known = {command.stage for command in every} | {command.name for command in every}
    if unknown := [name for name in names if name not in known]:
        stages = ", ".join(dict.fromkeys(command.stage for command in every))
        raise SystemExit(f"gpu.sh: error: no stage {', '.join(unknown)}; there are {stages}")
    return [c for c in every if not names or c.stage in names or c.name in names]


def in_order(wanted: Sequence[Command], state: State) -> list[Command]:
    """What has not passed: first what was never tried, then what was tried the fewest times."""
    tried = {name: outcome.attempts for name, outcome in state.outcomes.items()}
    left = [c for c in wanted if c.name not in tried or not state.outcomes[c.name].passed]
    return sorted(left, key=lambda command: tried.get(command.name, 0))


def run_all(wanted: Sequence[Command], state: State, out: Path, end: float) -> None:
    """One after another, until the time is used up."""
    log = out / "log.txt"
    for command in wanted:
        limit = min(command.limit, end - time.monotonic())
        if limit < _LEAST:
            print(f"== no time is left for {command.name}", flush=True)
            continue
        heading = f"== {command.name}, at most {limit:.0f} s: {' '.join(command.arguments)}"
        print(heading, flush=True)
        with log.open("a") as file:
            file.write(heading + "\n")
        ended = run(as_process(command), limit, log)
        cut_short = ended.exit_code == OUT_OF_TIME and limit < command.limit
        if not cut_short:  # by the end of the call: it counts as not tried
            state.record(command.name, ended.exit_code, ended.seconds)
        print(f"== {command.name}: exit code {ended.exit_code}, {ended.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
