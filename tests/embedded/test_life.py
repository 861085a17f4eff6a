"""What ends the calls and the worker of a program: signals, forks, the end of the program."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_BEGIN = """
import os, signal, sys
from glmserve import LLM
def worker(llm):
    return llm._llm.server.context.engine._executor.worker_pid
"""


class Program:
    """A script of a user, and the worker process that it names first."""

    def __init__(self, code: str, folder: Path) -> None:
        script = folder / "script.py"
        script.write_text(_BEGIN + code)
        self.process = subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        named = self.line()
        assert named, self.process.communicate()
        self.worker = int(named)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        """The exit code and what was written to stderr; the worker is gone, too."""
        _, errors = self.process.communicate(timeout=30)
        while Path(f"/proc/{self.worker}").exists():
            time.sleep(0.01)
        return self.process.returncode, errors


def test_ctrl_c_ends_the_call_and_a_fork_does_no_harm(tmp_path: Path) -> None:
    program = Program(
        """
llm = LLM()
print(worker(llm), flush=True)
try:
    for chunk in llm.stream("a", max_tokens=1500, ignore_eos=True):
        print("streaming", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
try:
    print("again", flush=True)
    llm.generate(["a"] * 200, max_tokens=1500, ignore_eos=True)
except KeyboardInterrupt:
    print(len(llm.generate("a", max_tokens=3).token_ids), flush=True)
child = os.fork()
if child == 0:
    try:
        llm.generate("a")
    except Exception as error:
        print(type(error).__name__, "forked" in str(error), flush=True)
    sys.exit()
os.waitpid(child, 0)
print(len(llm.generate("a", max_tokens=3).token_ids), flush=True)
""",
        tmp_path,
    )
    assert program.line() == "streaming"
    program.process.send_signal(signal.SIGINT)
    while (line := program.line()) == "streaming":
        pass
    assert line == "interrupted"
    assert program.line() == "again"
    program.process.send_signal(signal.SIGINT)
    assert [program.line() for _ in range(3)] == ["3", "ClosedError True", "3"]
    assert program.end() == (0, "")


@pytest.mark.exhaustive
def test_a_killed_program_leaves_no_worker(tmp_path: Path) -> None:
    program = Program(
        """
llm = LLM(device="null")
print(worker(llm), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
        tmp_path,
    )
    assert program.end() == (-signal.SIGKILL, "")


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import glmserve; own = set(sys.modules) - before\n"
        "print([n for n in own if n.split('.')[0] not in sys.stdlib_module_names])\n"
        "glmserve.LLM, glmserve.SamplingParams\n"
        "print([n for n in ('torch', 'numpy', 'starlette', 'uvicorn') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "['glmserve']\n[]\n", result.stderr
