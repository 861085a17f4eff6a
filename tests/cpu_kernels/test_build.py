"""The build where there is no compiler, or a bad one, and what the installation makes of it.

Nothing is compiled here: stand-ins note what they are asked for.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from glmserve_cpu_kernels import build
from glmserve_cpu_kernels.build import INSTRUCTION_SETS, BuildError

HOOK = Path(__file__).parents[2] / "kernels" / "hatch_build.py"
X86_LINUX = sys.platform == "linux" and os.uname().machine == "x86_64"

needs_x86 = pytest.mark.skipif(not X86_LINUX, reason="the build refuses before it asks a compiler")
MakeCompiler = Callable[[str], Path]
WRITE_TARGET = 'while [ $# -gt 1 ]; do [ "$1" = -o ] && : >"$2"; shift; done'
"""As much of a compiler in shell as the build waits for."""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeCompiler:
    """Makes $CXX a shell script."""

    def make(script: str) -> Path:
        path = tmp_path / "compiler"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return path

    return make


@needs_x86
class TestBuild:
    def test_no_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BuildError, match=r"no C\+\+ compiler: install g\+\+ or clang\+\+"):
            build.build(tmp_path / "kernels.so")

    def test_compiler_that_is_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CXX", str(tmp_path / "missing"))
        with pytest.raises(BuildError, match="missing does not run: "):
            build.build(tmp_path / "kernels.so")

    def test_compiler_that_fails(self, tmp_path: Path, compiler: MakeCompiler) -> None:
        """What it says is passed on, and the library that was there stays."""
        compiler("echo unknown option >&2; exit 1")
        target = tmp_path / "kernels.so"
        target.write_text("earlier")
        with pytest.raises(BuildError, match=r"(?s)-std=c\+\+20.*unknown option"):
            build.build(target)
        assert target.read_text() == "earlier"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["compiler", "kernels.so"]

    def test_what_the_compiler_is_asked_for(self, tmp_path: Path, compiler: MakeCompiler) -> None:
        """Kernels once per instruction set. Objects that run on any CPU come first, then by what
        they ask of it: of equal inline functions the linker keeps the first."""
        asked = tmp_path / "asked"
        compiler(f'echo "$@" >>{asked}; {WRITE_TARGET}')
        build.build(tmp_path / "kernels.so")
        assert (tmp_path / "kernels.so").exists()
        *compiled, linked = (line.split() for line in asked.read_text().splitlines())
        objects = [Path(name).stem for name in linked if name.endswith(".o")]
        sets = ["avx2", "avx2_vnni", "avx512_vnni", "avx512_bf16", "amx"]
        kernels = ["attention", "elementwise", "linear", "lora", "sampling"]
        kernels_of = dict.fromkeys(sets, kernels) | {"avx2_vnni": ["linear"], "amx": ["linear_amx"]}
        special = [f"{kernel}_{name}" for name in sets for kernel in kernels_of[name]]
        assert objects == [
            "amx",
            "amx_check",
            "api",
            "channel",
            "exchange",
            "pack",
            "pool",
            *special,
        ]
        assert len(compiled) == len(objects)
        for arguments in compiled:
            stem = Path(arguments[-1]).stem
            flags = {flag for flag in arguments if flag.startswith("-m")}
            name = next(
                (name for name in sets if stem in special and stem.endswith(f"_{name}")), None
            )
            assert flags == (set(INSTRUCTION_SETS[name]) if name else set())

    def test_object_files_are_made_elsewhere(
        self, tmp_path: Path, compiler: MakeCompiler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beside the library there is nothing until it is linked."""
        scratch, target = tmp_path / "scratch", tmp_path / "package" / "kernels.so"
        for folder in (scratch, target.parent):
            folder.mkdir()
        monkeypatch.setattr(build.tempfile, "tempdir", str(scratch))
        compiler(f"ls {target.parent} >>{tmp_path}/beside; {WRITE_TARGET}")
        build.build(target)
        assert (tmp_path / "beside").read_text() == ""
        assert [*scratch.iterdir(), *target.parent.iterdir()] == [target]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_leaves_nothing(
        self, tmp_path: Path, compiler: MakeCompiler, number: signal.Signals
    ) -> None:
        scratch, target = tmp_path / "scratch", tmp_path / "package" / "kernels.so"
        for folder in (scratch, target.parent):
            folder.mkdir()
        compiler(f"echo >>{tmp_path}/started; until [ -e {tmp_path}/go ]; do sleep 0.01; done")
        code = f"from pathlib import Path; from build import build; build(Path({str(target)!r}))"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(build.__file__).parent,
            env={**os.environ, "TMPDIR": str(scratch)},
            stderr=subprocess.DEVNULL,
        )
        while not (tmp_path / "started").exists():
            assert process.poll() is None
            time.sleep(0.01)
        assert list(scratch.iterdir())
        process.send_signal(number)
        (tmp_path / "go").touch()
        assert process.wait() in (-number, 128 + number)
        assert [*scratch.iterdir(), *target.parent.iterdir()] == []


@pytest.mark.parametrize(("machine", "system"), [("riscv64", "linux"), ("x86_64", "darwin")])
def test_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, system: str
) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    monkeypatch.setattr(build.sys, "platform", system)
    reason = f"written for Linux on x86-64 or aarch64; this is {machine} {system}"
    with pytest.raises(BuildError, match=reason):
        build.build(tmp_path / "kernels.so")


def test_is_current(tmp_path: Path) -> None:
    target = tmp_path / "kernels.so"
    assert not build.is_current(target)
    target.touch()
    assert build.is_current(target)
    newest = max(path.stat().st_mtime for path in build.SOURCES.iterdir())
    os.utime(target, (newest, newest))
    assert not build.is_current(target)


class StandIn:
    """What the hook needs of build.py."""

    BuildError = BuildError

    def __init__(self, library: Path, *, current: bool = False, error: str | None = None) -> None:
        self.LIBRARY = library
        self.calls = 0
        self._current, self._error = current, error

    def is_current(self) -> bool:
        return self._current

    def build(self) -> None:
        self.calls += 1
        if self._error:
            raise BuildError(self._error)


class Application:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


class Interface:
    """As much of hatchling's BuildHookInterface as there is to use."""

    def __class_getitem__(cls, _: object) -> type[Interface]:
        return cls

    def __init__(self, root: Path, target_name: str) -> None:
        self.root, self.target_name = str(root), target_name
        self.app = Application()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """kernels/hatch_build.py, whose base class only an installation has."""
    name = "hatchling.builders.hooks.plugin.interface"
    for length in range(1, 6):
        package = ".".join(name.split(".")[:length])
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setattr(sys.modules[name], "BuildHookInterface", Interface, raising=False)
    spec = importlib.util.spec_from_file_location("hook_under_test", HOOK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestHook:
    @pytest.fixture(autouse=True)
    def given(self, hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hook, self.root, self.monkeypatch = hook, tmp_path, monkeypatch

    def install(
        self, wish: str | None, target: str = "wheel", **options: Any
    ) -> tuple[StandIn, Application, dict[str, Any]]:
        """What a build of `target` with this wish does."""
        builder = StandIn(self.root / "kernels" / "package" / "_kernels.so", **options)
        self.monkeypatch.setattr(self.hook, "_build_module", lambda _: builder)
        if wish is None:
            self.monkeypatch.delenv("GLMSERVE_CPU_KERNELS", raising=False)
        else:
            self.monkeypatch.setenv("GLMSERVE_CPU_KERNELS", wish)
        hook = self.hook.CpuKernels(self.root, target)
        data: dict[str, Any] = {"artifacts": [], "pure_python": True}
        hook.initialize("standard", data)
        return builder, hook.app, data

    @pytest.mark.parametrize("wish", [None, "required"])
    def test_compiled(self, wish: str | None) -> None:
        builder, app, data = self.install(wish)
        assert builder.calls == 1
        assert data["artifacts"] == ["/kernels/package/_kernels.so"]
        assert not data["pure_python"]
        assert data["tag"] == "py3-none-linux_x86_64"
        assert not app.warnings

    def test_compiled_before(self) -> None:
        builder, _, data = self.install(None, current=True)
        assert builder.calls == 0
        assert data["artifacts"] == ["/kernels/package/_kernels.so"]

    def test_cannot_be_compiled(self) -> None:
        """The installation goes on, says so, and is one of plain Python."""
        _, app, data = self.install(None, error="no compiler")
        assert app.warnings == ["CPU kernels are left out: no compiler"]
        assert data == {"artifacts": [], "pure_python": True}

    def test_required(self) -> None:
        with pytest.raises(BuildError, match="no compiler"):
            self.install("required", error="no compiler")

    def test_off(self) -> None:
        builder, app, data = self.install("off", error="no compiler")
        assert (builder.calls, app.warnings) == (0, [])
        assert data == {"artifacts": [], "pure_python": True}

    def test_source_distributions_have_none(self) -> None:
        builder, _, data = self.install("required", target="sdist")
        assert builder.calls == 0
        assert data["pure_python"]


def test_the_hook_finds_the_build(hook: ModuleType) -> None:
    assert hook._build_module(HOOK.parent).LIBRARY == build.LIBRARY
