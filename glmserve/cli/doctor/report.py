"""Writes a diagnosis as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from glmserve import __version__
from glmserve.cli.doctor import messages as m
from glmserve.cli.doctor.diagnosis import Adapter, Advice, Checkpoint, Diagnosis, Plan
from glmserve.cli.doctor.language import Language, Message
from glmserve.cli.doctor.table import align
from glmserve.cli.units import format_count, format_count_chinese, format_size
from glmserve.contract.diagnosis import Machine, Weights

Say = Callable[..., str]
Row = tuple[str, str]

_ADVICE = {
    "fix": m.FIX,
    "longer_context": m.LONGER_CONTEXT,
    "more_users": m.MORE_USERS,
    "compile_kernels": m.COMPILE_KERNELS,
}


def render(diagnosis: Diagnosis, language: Language) -> str:
    """The report as lines of text."""

    def say(message: Message, **values: object) -> str:
        return message.say(language, **values)

    lines = [f"glmserve {__version__} doctor"]
    if machine := diagnosis.machine:
        lines += ["", say(m.MACHINE), *_table(_machine(machine, say))]
    if checkpoint := diagnosis.checkpoint:
        lines += ["", say(m.CHECKPOINT, path=checkpoint.path)]
        rows = [*_checkpoint(checkpoint, diagnosis, say, language)]
        rows += [_adapter(adapter, say) for adapter in diagnosis.adapters]
        lines += _table(rows)
        lines += ["", *_memory(diagnosis.plans, say)]
    return "\n".join([*lines, "", *_verdict(diagnosis, say)])


def _machine(machine: Machine, say: Say) -> Iterator[Row]:
    versions = dict(machine.versions)
    yield (
        say(m.SYSTEM),
        f"{machine.system}, {machine.architecture}, Python {versions.pop('python')}",
    )
    cores = say(m.CORES, name=machine.cpu, cores=machine.cores, logical=machine.logical_cpus)
    if machine.cpu_quota is not None:
        cores += say(m.QUOTA, quota=machine.cpu_quota)
    yield say(m.PROCESSOR), cores
    yield say(m.INSTRUCTIONS), " ".join(machine.instruction_sets) or say(m.NO_INSTRUCTIONS)
    if machine.kernels:
        yield say(m.KERNELS), say(m.KERNELS_USED, name=machine.kernels)
    else:
        yield say(m.KERNELS), say(m.KERNELS_MISSING, reason=machine.no_kernels_reason)
    yield say(m.MEMORY), _machine_memory(machine, say)
    packages = [
        f"{name} {version}" if version else say(m.NOT_INSTALLED, name=name)
        for name, version in versions.items()
    ]
    yield say(m.PACKAGES), ", ".join(packages)
    for device in machine.devices:
        usable = m.USABLE if device.available else m.NOT_USABLE
        yield say(m.DEVICE, name=device.name), say(usable, reason=device.reason)
        if device.settings:
            values = ", ".join(f"{name}={value}" for name, value in device.settings.items())
            yield say(m.SETTINGS, name=device.name), values
    for number, gpu in enumerate(machine.gpus):
        total, free = format_size(gpu.total_bytes), format_size(gpu.free_bytes)
        memory = say(m.GPU_MEMORY, name=gpu.name, total=total, free=free)
        yield say(m.GPU, number=number), memory


def _machine_memory(machine: Machine, say: Say) -> str:
    total, available = format_size(machine.total_bytes), format_size(machine.available_bytes)
    text = say(m.MEMORY_SIZES, total=total, available=available)
    if machine.limit_bytes is not None:
        text += say(m.MEMORY_LIMIT, limit=format_size(machine.limit_bytes))
    return text


def _checkpoint(
    checkpoint: Checkpoint, diagnosis: Diagnosis, say: Say, language: Language
) -> Iterator[Row]:
    model = say(m.LAYERS, family=checkpoint.family, layers=checkpoint.num_layers)
    if checkpoint.num_parameters:
        count = format_count_chinese if language is Language.CHINESE else format_count
        model += say(m.PARAMETERS, count=count(checkpoint.num_parameters))
    yield say(m.FAMILY), model
    yield say(m.CONTEXT), say(m.TOKENS, count=checkpoint.max_context)
    yield say(m.STORED), _stored(checkpoint, say)
    if checkpoint.prefix_length:
        yield say(m.PREFIX), say(m.PREFIX_LENGTH, length=checkpoint.prefix_length)
    if download := diagnosis.download:
        size = format_size(download.total_bytes)
        yield say(m.FILES), say(m.FILES_TO_FETCH, size=size, files=download.files)
    else:
        yield say(m.WEIGHTS), _weights(diagnosis.weights, say)
        yield say(m.TOKENIZER), _tokenizer(checkpoint, say)
    if checkpoint.chat_format:
        yield say(m.CHAT_FORMAT), checkpoint.chat_format
    if checkpoint.unknown_fields:
        yield say(m.UNKNOWN_FIELDS), ", ".join(checkpoint.unknown_fields)


def _adapter(adapter: Adapter, say: Say) -> Row:
    what = say(m.ADAPTER_PREFIX, kind=adapter.kind, size=adapter.size)
    if adapter.kind is None:
        what = say(m.ADAPTER_BROKEN)
    elif adapter.kind == "lora":
        what = say(m.ADAPTER_LORA, size=adapter.size)
    return say(m.ADAPTER, name=adapter.name), what


def _tokenizer(checkpoint: Checkpoint, say: Say) -> str:
    if checkpoint.skips_tokenizer:
        return say(m.TOKENIZER_SKIPPED)
    if checkpoint.vocab_size is None:
        return say(m.TOKENIZER_NONE)
    return say(m.TOKENIZER_IDS, count=checkpoint.vocab_size)


def _stored(checkpoint: Checkpoint, say: Say) -> str:
    bits, size = checkpoint.stored_bits, checkpoint.stored_group_size
    if checkpoint.modelslim_kinds:
        return say(m.STORED_MODELSLIM, kinds=", ".join(checkpoint.modelslim_kinds))
    if bits and size:
        return say(m.STORED_GROUPS, bits=bits, size=size)
    if bits:
        return say(m.STORED_BITS, bits=bits)
    if checkpoint.stored_dtype is None:
        return say(m.STORED_UNKNOWN)
    return say(m.STORED_PLAIN, dtype=checkpoint.stored_dtype)


def _weights(weights: Weights | None, say: Say) -> str:
    if weights is None:
        return say(m.WEIGHTS_DUMMY)
    if weights.problem:
        return say(m.WEIGHTS_BROKEN)
    return say(m.WEIGHTS_WHOLE, files=weights.files, size=format_size(weights.total_bytes))


def _memory(plans: Sequence[Plan], say: Say) -> list[str]:
    """A line for each number format."""
    if not plans:
        return [say(m.NO_PLAN)]
    asked = plans[0]
    contexts = sorted({context for plan in plans for context in plan.users})
    head = [
        *(m.WEIGHT_FORMAT, m.CACHE_FORMAT, m.WEIGHT_SIZE, m.WORKSPACE_SIZE, m.CACHE_SIZE),
        *(m.CACHE_TOKENS, m.MAX_CONTEXT),
    ]
    users = [say(m.USERS, context=_thousands(context)) for context in contexts]
    rows = [[*map(say, head), *users, ""]]
    rows += [_plan(plan, contexts, say, asked) for plan in plans]
    right = [False, False, *[True] * (len(rows[0]) - 3), False]
    available = format_size(asked.available_bytes)
    table = ["  " + line for line in align(rows, right)]
    explained = [say(m.USERS_EXPLAINED)] if contexts else []
    return [say(m.PLANS, device=asked.device, available=available), *table, *explained]


def _plan(plan: Plan, contexts: Sequence[int], say: Say, asked: Plan) -> list[str]:
    sizes = [format_size(plan.weight_bytes), format_size(plan.workspace_bytes)]
    if plan.problem:
        numbers = [say(m.IMPOSSIBLE), "", "", *[""] * len(contexts)]
    else:
        tokens, context = f"{plan.kv_cache_tokens:,}", f"{plan.max_context:,}"
        users = [str(plan.users[context] or "-") for context in contexts]
        numbers = [format_size(plan.kv_cache_bytes), tokens, context, *users]
    remarks = []
    if plan.ranks > 1:
        remarks.append(say(m.RANKS, count=plan.ranks))
    if plan.stages > 1:
        remarks.append(say(m.STAGES, count=plan.stages))
    if not plan.changes:
        remarks.append(say(m.AS_ASKED))
    elif plan.device != asked.device:
        remarks.append(say(m.ON_DEVICE, device=plan.device))
    remark = " ".join(remarks)
    return [plan.weight_format, plan.kv_cache_format, *sizes, *numbers, remark]


def _thousands(tokens: int) -> str:
    """A number of tokens such as "2k" (2048)."""
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else str(tokens)


def _verdict(diagnosis: Diagnosis, say: Say) -> list[str]:
    if diagnosis.can_serve:
        lines = [say(m.CAN_SERVE), f"  {diagnosis.command}"]
    else:
        lines = [say(m.CANNOT_SERVE), *(f"  {p.message}" for p in diagnosis.problems)]
    if diagnosis.advice:
        lines += ["", say(m.CHANGES)]
    for advice in diagnosis.advice:
        lines += [f"  {_advice(advice, say)}", f"    {advice.command}"]
    return lines


def _advice(advice: Advice, say: Say) -> str:
    changes = _changes(advice.changes, say)
    return say(_ADVICE[advice.kind], changes=changes, tokens=advice.tokens)


def _changes(changes: Mapping[str, str | None], say: Say) -> str:
    parts = []
    for name, value in changes.items():
        option = f"--{name.replace('_', '-')}"
        how = m.WITHOUT if value is None else m.WITH
        parts.append(say(how, option=option if value is None else f"{option} {value}"))
    return say(m.AND).join(parts)


def _table(rows: Iterable[Row]) -> list[str]:
    return ["  " + line for line in align(list(rows), (False, False))]
