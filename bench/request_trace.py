"""The path of one request through glmserve's files: calls, files, moves between files, returns.

    python bench/request_trace.py
    python bench/request_trace.py --list

Sends one streamed chat request with one `stop` string to the tests' fake server (a FakeRunner, an
InlineExecutor; no API keys, journal or cache) and records what runs on the thread of the event
loop. The same request with another message comes first, so that imports are not counted.

- A call is the start of a function, method, lambda, generator or coroutine of a file below
  `glmserve/`. Resuming a generator or a coroutine is no call, nor are comprehensions, nor generated
  code such as the `__init__` of a dataclass.
- Files are the distinct files of these calls.
- A move is a call in another file than that of the call before it.
- A return is a move to a file that an earlier call of the same stretch was in already.

The first stretch begins when the ASGI application is called and ends before `Engine.submit_group`
is; this call begins the second stretch, which ends when the first step is submitted to the
executor. The third line counts from the application's call until it returns; the scheduler's tasks
that run meanwhile are included.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
TEST_FOLDERS = ("tests", "tests/support")
"""Where the tests keep their helpers, below the checkout."""


def request(text: str) -> dict[str, Any]:
    """The body of the request, with this message."""
    return {
        "model": "fake",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 8,
        "temperature": 0,
        "stop": "\n\n",
        "stream": True,
    }


class PathLength(NamedTuple):
    """How long the path through the files is; see the module's docstring."""

    calls: int
    files: int
    moves: int
    returns: int


class Call(NamedTuple):
    """One call."""

    file: str
    """Below the folder `glmserve`."""
    function: str


class Trace(NamedTuple):
    """The calls of one request, in order, and where its stretches end."""

    calls: list[Call]
    submitted: int
    """Calls before Engine.submit_group."""
    first_step: int
    """Calls before the first step is submitted to the executor."""

    def stretches(self) -> list[tuple[str, list[Call]]]:
        """Name and calls of each line of the table."""
        return [
            ("ASGI call to submit_group", self.calls[: self.submitted]),
            ("submit_group to first step", self.calls[self.submitted : self.first_step]),
            ("whole request", self.calls),
        ]


def path_length(files: Sequence[str]) -> PathLength:
    """Count the path.

    Args:
        files: the file of each call, in order.
    """
    runs = files_in_turn(files)
    num_files = len(set(runs))
    return PathLength(len(files), num_files, max(0, len(runs) - 1), len(runs) - num_files)


def files_in_turn(files: Sequence[str]) -> list[str]:
    """The files without those that repeat the one before."""
    before = (None, *files)
    return [file for file, last in zip(files, before, strict=False) if file != last]


def is_start(code: CodeType, offset: int) -> bool:
    """Whether a frame at this byte offset of its code begins, and is not resumed.

    The two low bits of RESUME's argument tell: 0 at the start of a function, else behind a yield,
    `yield from` or await (https://docs.python.org/3/library/dis.html#opcode-RESUME).
    """
    return code.co_code[offset + 1] & 3 == 0


class Recorder:
    """Collects the calls of files in a folder while it is on, on the thread that started it."""

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder}/"
        self.calls: list[Call] = []
        self.codes: list[CodeType] = []

    def start(self) -> None:
        sys.setprofile(self._see)

    def stop(self) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._prefix):
            return
        if code.co_name.startswith("<") and code.co_name != "<lambda>":
            return  # a comprehension or a module
        if is_start(code, frame.f_lasti):
            file = code.co_filename.removeprefix(self._prefix)
            self.calls.append(Call(file, code.co_qualname))
            self.codes.append(code)


async def trace_request(checkout: Path) -> Trace:
    """Trace the request in this process.

    Args:
        checkout: folder with `glmserve` and the tests' helpers.
    """
    fakes = import_helper(checkout, "fakes")
    fake_server = import_helper(checkout, "fake_server")
    engine = importlib.import_module("glmserve.engine").Engine
    executors = importlib.import_module("glmserve.executor")
    package = importlib.import_module("glmserve")
    recorder = Recorder(Path(inspect.getfile(package)).parent)
    first_steps: list[int] = []

    class WatchedExecutor(executors.InlineExecutor):  # type: ignore[misc, name-defined]
        def submit(self, step: Any) -> Any:
            first_steps.append(len(recorder.calls))
            return super().submit(step)

    executor = WatchedExecutor(lambda _: fakes.FakeRunner())
    async with fake_server.serve(executor=executor) as app:

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            recorder.start()
            try:
                await app(scope, receive, send)
            finally:
                recorder.stop()

        async with fake_server.client_of(app) as client:
            await client.post("/v1/chat/completions", json=request("Warm up"))
        first_steps.clear()
        async with fake_server.client_of(recorded) as client:
            response = await client.post("/v1/chat/completions", json=request("Hello"))
    if not response.text.endswith("data: [DONE]\n\n"):
        raise SystemExit(f"the request failed: {response.text}")
    submitted = recorder.codes.index(engine.submit_group.__code__)
    return Trace(recorder.calls, submitted, first_steps[0])


def import_helper(checkout: Path, name: str) -> ModuleType:
    """A module of the tests' helpers, wherever the checkout keeps it.

    Raises:
        SystemExit: it is in none of the places.
    """
    for folder in (checkout, *(checkout / folder for folder in TEST_FOLDERS)):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    for spelling in (name, f"support.{name}", f"tests.support.{name}"):
        try:
            return importlib.import_module(spelling)
        except ModuleNotFoundError as error:
            if error.name is None or error.name not in spelling:
                raise
    raise SystemExit(f"there is no {name}.py in {' or '.join(TEST_FOLDERS)} of {checkout}")


def table(trace: Trace) -> Iterator[str]:
    """The lines of the report."""
    yield f"{'stretch':28}" + "".join(f"{name:>9}" for name in PathLength._fields)
    for name, calls in trace.stretches():
        numbers = path_length([call.file for call in calls])
        yield f"{name:28}" + "".join(f"{number:9}" for number in numbers)


def listing(trace: Trace) -> Iterator[str]:
    """Each file in turn, and the functions called in it before the next file's."""
    for name, calls in trace.stretches()[:2]:
        yield f"\n{name}:"
        file = None
        for call in calls:
            if call.file != file:
                file = call.file
                yield f"  {file}"
            yield f"      {call.function}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, default=REPOSITORY, help="to trace; default: ours")
    parser.add_argument("--list", action="store_true", help="print the sequence of files, too")
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    sys.path[:0] = [str(checkout), str(checkout / "kernels")]
    trace = asyncio.run(trace_request(checkout))
    print("\n".join(table(trace)))
    if options.list:
        print("\n".join(listing(trace)))


if __name__ == "__main__":
    main()
