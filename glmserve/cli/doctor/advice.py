"""Derives advice from attempts with changed options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from glmserve.cli.doctor.diagnosis import Advice, AdviceKind
from glmserve.contract.diagnosis import Attempt, Machine
from glmserve.process.paths import shell_quoted

_MIN_GAIN = 1.3
"""Smaller number formats are advised from this factor of KV cache tokens on."""
_COMPILE = "GLMSERVE_CPU_KERNELS=required pip install ."
_LIMITS = {"max_model_len", "kv_cache_tokens", "kv_cache_memory", "gpu_memory_utilization"}
_FORMATS = {"quantization", "kv_cache_dtype"}
_FIXES: tuple[Callable[[Set[str]], bool], ...] = (
    lambda changed: changed <= {"dtype"},
    lambda changed: changed <= _FORMATS,
    lambda changed: changed <= {"tensor_parallel_size"},
    lambda changed: changed <= {"pipeline_parallel_size"},
    lambda changed: changed <= _LIMITS,
    lambda changed: "device" in changed,
)
"""Kinds of changes: the device's own dtype, smaller number formats, other numbers of shards or
stages, limits left out, another device. One attempt of each kind is advised."""


def advise(
    attempts: Sequence[Attempt],
    arguments: Sequence[str],
    machine: Machine | None,
    wanted_context: int,
) -> list[Advice]:
    """Advise changes: to serve at all, or else for longer contexts, more users and more speed.

    Args:
        attempts: first with the given options, then with changes, the least costly ones first.
        arguments: the given arguments of `glmserve serve`.
        machine: the machine; None if CPU kernels are not wanted.
        wanted_context: tokens of one request if memory were sufficient.
    """
    if not attempts:
        return []
    asked, *others = attempts
    usable = [attempt for attempt in others if attempt.limits is not None]
    if asked.limits is None:
        return list(_fixes(usable, arguments))
    return [*_improvements(asked, usable, arguments, wanted_context), *_kernels(asked, machine)]


def serve_command(arguments: Sequence[str], changes: Mapping[str, str | None]) -> str:
    """The command line of `glmserve serve` with changed options.

    Args:
        changes: values by field of RunnerConfig (named like its option); None leaves it out.
    """
    options = {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    kept: list[str] = []
    skips_value = False
    for argument in arguments:
        if skips_value:
            skips_value = False
        elif argument in options:
            skips_value = True
        elif argument.partition("=")[0] not in options:
            kept.append(argument)
    added = [part for name, value in options.items() if value is not None for part in (name, value)]
    return " ".join(map(shell_quoted, ["glmserve", "serve", *kept, *added]))


def _fixes(usable: Sequence[Attempt], arguments: Sequence[str]) -> Iterator[Advice]:
    """The first usable attempt of each kind of change."""
    for kind in _FIXES:
        if found := next((a for a in usable if kind(a.changes.keys())), None):
            yield _advice("fix", found, arguments, _context(found))


def _improvements(
    asked: Attempt, usable: Sequence[Attempt], arguments: Sequence[str], wanted_context: int
) -> Iterator[Advice]:
    here = [a for a in usable if a.changes.keys() <= _FORMATS and _is_smaller(a)]
    context = _context(asked)
    if context < wanted_context:
        if longer := next((a for a in here if _context(a) > context), None):
            yield _advice("longer_context", longer, arguments, _context(longer))
        return
    tokens = _tokens(asked)
    if larger := next((a for a in here if _tokens(a) >= _MIN_GAIN * tokens), None):
        yield _advice("more_users", larger, arguments, _tokens(larger))


def _is_smaller(attempt: Attempt) -> bool:
    """Whether the attempt changes number formats and leaves out no option."""
    return None not in attempt.changes.values()


def _kernels(asked: Attempt, machine: Machine | None) -> Iterator[Advice]:
    if machine and asked.device == "cpu" and machine.kernels is None and _can_compile(machine):
        yield Advice("compile_kernels", {}, _COMPILE)


def _can_compile(machine: Machine) -> bool:
    if machine.architecture == "aarch64":
        return True
    return machine.architecture == "x86_64" and "avx2" in machine.instruction_sets


def _advice(kind: AdviceKind, attempt: Attempt, arguments: Sequence[str], tokens: int) -> Advice:
    return Advice(kind, attempt.changes, serve_command(arguments, attempt.changes), tokens)


def _context(attempt: Attempt) -> int:
    return attempt.limits.max_context if attempt.limits else 0


def _tokens(attempt: Attempt) -> int:
    return attempt.limits.token_capacity if attempt.limits else 0
