"""What is written down is computed again, token by token, and a difference is named."""

from __future__ import annotations

import asyncio
import random
from array import array
from itertools import chain, pairwise
from pathlib import Path

import msgspec
import pytest

from glmserve.adapters import digest
from glmserve.config import AdapterConfig, RunnerConfig, SchedulerConfig, report_nothing
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
)
from glmserve.contract.wire import HEADER_SIZE, LoadAdapter, RemoveAdapter, body_size
from glmserve.engine import AdapterCatalog, ChoiceSpec, SchedulingAttributes
from glmserve.errors import AdapterError, OptionError
from glmserve.executor import InlineExecutor
from glmserve.request import SamplingParams
from glmserve.trace import (
    Arrival,
    Comparison,
    Difference,
    End,
    Loss,
    TraceWriter,
    TracingExecutor,
    read_recording,
    replay_alone,
    replay_steps,
)
from glmserve.trace.events import CHECKSUM_SIZE, MAGIC, Evictions, RunningChecksum, StepTime
from support.adapters import AdapterRunner, expected_with, with_adapters, write_adapter
from support.arrivals import random_arrivals
from support.fakes import LIMITS, AsyncRunner, FakeRunner
from support.simulation import SamplingRunner, requests_of
from support.worker_on_thread import WorkerOnThread, drain, serving

CONFIG = RunnerConfig(checkpoint="nowhere")
TIGHT = msgspec.structs.replace(
    LIMITS, num_blocks=12, max_sequences=6, max_step_tokens=16, max_drafts=6
)


class AsyncSamplingRunner(AsyncRunner, SamplingRunner):
    """A step ahead, and heeding random numbers."""


async def record(
    path: Path, *runners: FakeRunner, speculative_tokens: int = 0, seed: int = 0
) -> None:
    """Requests of all kinds, more than the cache holds; some are closed early."""
    writer = TraceWriter(path, CONFIG)
    executor = TracingExecutor(WorkerOnThread(*runners), writer)
    config = SchedulerConfig(speculative_tokens=speculative_tokens)
    rng = random.Random(seed)
    async with serving(executor, config, writer) as engine:
        streams = []
        for arrival in random_arrivals(rng, 25):
            variants = [ChoiceSpec(r.params, r.constraint) for r in requests_of(arrival, 0)]
            streams += engine.submit_group(
                arrival.prompt, variants, SchedulingAttributes("tenant", 3, b"s")
            )
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if len(streams) % 5 == 0:
                streams[-1].close()
        await asyncio.gather(*map(drain, streams))


def failing(limits: RunnerLimits, step: int) -> FakeRunner:
    runner = SamplingRunner(limits)
    runner.fail_at_step = step
    return runner


async def replayed(path: Path, runner: FakeRunner) -> Comparison:
    executor = InlineExecutor(lambda _: runner)
    await executor.start(report_nothing)
    try:
        return await replay_steps(executor, read_recording(path)[1])
    finally:
        await executor.close()


async def replayed_alone(path: Path, runner: FakeRunner) -> list[Difference | None]:
    executor = InlineExecutor(lambda _: runner)
    await executor.start(report_nothing)
    try:
        events = read_recording(path)[1]
        return [found async for found in replay_alone(executor, runner.info.limits, events)]
    finally:
        await executor.close()


@pytest.fixture(params=["in turn", "ahead", "at a time", "drafts", "crashes"])
async def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A recording of each way in which steps follow each other."""
    path = tmp_path / "recording"
    match request.param:
        case "in turn":
            await record(path, SamplingRunner(TIGHT))
        case "ahead":
            await record(path, AsyncSamplingRunner(TIGHT))
        case "at a time":
            await record(path, SamplingRunner(msgspec.structs.replace(TIGHT, steps_in_flight=3)))
        case "drafts":
            await record(path, SamplingRunner(TIGHT), speculative_tokens=4)
        case "crashes":
            failed = [failing(TIGHT, step) for step in (4, 12, 14, 30)]
            await record(path, *failed, SamplingRunner(TIGHT))
    return path


async def test_every_token_comes_again(path: Path) -> None:
    found = await replayed(path, SamplingRunner(TIGHT))
    assert found.num_steps > 20
    assert found.num_tokens > 100
    assert (found.first, found.num_different, found.request_ids) == (None, 0, set())
    assert found.largest_change == 0


async def test_and_alone(path: Path) -> None:
    differences = await replayed_alone(path, SamplingRunner(LIMITS))
    assert len(differences) > 20
    assert set(differences) == {None}


class WrongRunner(SamplingRunner):
    """Chooses another token behind every 23rd position."""

    def _choose(self, sequence: ScheduledSequence) -> int:
        position = sequence.start + len(sequence.token_ids)
        return super()._choose(sequence) + (position == 23)


async def test_the_first_difference_is_named(path: Path) -> None:
    found = await replayed(path, WrongRunner(TIGHT))
    assert found.first is not None
    assert found.first.position == 23
    assert 0 < found.num_different == len(found.request_ids) < found.num_tokens
    differences = [d for d in await replayed_alone(path, WrongRunner(LIMITS)) if d is not None]
    assert {d.position for d in differences} == {23}
    assert {d.request_id for d in differences} <= found.request_ids


class OtherOdds(SamplingRunner):
    def execute(self, *arguments: object) -> StepOutput:
        output = super().execute(*arguments)  # type: ignore[arg-type]
        changed = [
            item and msgspec.structs.replace(item, logprob=item.logprob - 0.25)
            for item in output.logprobs
        ]
        return msgspec.structs.replace(output, logprobs=changed)


async def test_changes_of_probabilities_are_told(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "file", CONFIG)
    executor = TracingExecutor(WorkerOnThread(SamplingRunner(LIMITS)), writer)
    async with serving(executor, observer=writer) as engine:
        await drain(
            engine.submit(
                [1, 2],
                SamplingParams(max_tokens=5, sampling=Sampling(temperature=1.0), top_logprobs=2),
            )
        )
    found = await replayed(tmp_path / "file", OtherOdds(LIMITS))
    assert (found.first, found.largest_change) == (None, 0.25)


async def test_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    await record(path, failing(TIGHT, 9), SamplingRunner(TIGHT))
    beginning, events = read_recording(path)
    assert (beginning.config, beginning.info.limits) == (CONFIG, TIGHT)
    kinds = [type(event) for event in events]
    assert kinds.count(Loss) == 1
    assert kinds.count(Arrival) == kinds.count(End) > 25
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_times_of_steps_and_what_they_evicted(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    writer = TraceWriter(path, CONFIG)
    executor = TracingExecutor(WorkerOnThread(SamplingRunner(TIGHT)), writer)
    async with serving(executor, observer=writer) as engine:
        for number in range(6):
            await drain(engine.submit([number, *range(9)], SamplingParams(max_tokens=9)))
    events = [*read_recording(path)[1]]
    steps = [event.step_id for event in events if isinstance(event, StepOutput)]
    times = [event for event in events if isinstance(event, StepTime)]
    assert [event.step_id for event in times] == steps
    assert all(0 < event.submitted < event.done for event in times)
    ends = [event.done for event in times]
    assert ends == sorted(ends)
    after = {type(b) for a, b in pairwise(events) if isinstance(a, Evictions)}
    assert after == {StepInput}
    evicted = [*chain(*(array("i", e.blocks) for e in events if isinstance(e, Evictions)))]
    assert len(evicted) > TIGHT.num_blocks
    assert set(evicted) <= set(range(TIGHT.num_blocks))


async def test_a_file_that_was_cut_off_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    await record(path, SamplingRunner(TIGHT))
    whole = path.read_bytes()
    num_events = sum(1 for _ in read_recording(path)[1])
    ends = [*range(len(whole) - 300, len(whole)), *range(2000, len(whole) - 300, 1009)]
    for end in ends:
        path.write_bytes(whole[:end])
        assert sum(1 for _ in read_recording(path)[1]) < num_events
    path.write_bytes(whole[: len(whole) // 2])
    assert (await replayed(path, SamplingRunner(TIGHT))).first is None
    assert set(await replayed_alone(path, SamplingRunner(LIMITS))) == {None}


def whole_frames(recording: bytes) -> list[bytes]:
    """With their checksums."""
    found, place = [], len(MAGIC)
    while place < len(recording):
        size = HEADER_SIZE + body_size(recording[place:]) + 2 * CHECKSUM_SIZE
        found.append(recording[place : place + size])
        place += size
    return found


async def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    await record(path, SamplingRunner(TIGHT))
    whole = path.read_bytes()
    for place in random.Random(1).sample(range(len(whole)), 300):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(OptionError, match=r"no recording|checksum of frame"):
            list(read_recording(path)[1])


async def test_frames_that_are_missing_doubled_or_exchanged_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    await record(path, SamplingRunner(TIGHT))
    frames = whole_frames(path.read_bytes())
    for i in range(len(frames) - 1):
        before, one, other, after = frames[:i], frames[i], frames[i + 1], frames[i + 2 :]
        for changed in ([other], [one, one, other], [other, one]):
            path.write_bytes(MAGIC + b"".join([*before, *changed, *after]))
            with pytest.raises(OptionError, match=f"checksum of frame ({i + 1}|{i + 2}) "):
                list(read_recording(path)[1])


def sealed(header: bytes, body: bytes) -> bytes:
    checksum = RunningChecksum()
    return header + checksum.after(header) + body + checksum.after(body)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no recording"),
        (MAGIC, "never ready"),
        (MAGIC + sealed(b"\x01\0\0\0", b"\xc1"), "malformed"),
        (MAGIC + b"\x01\0\0\0" + bytes(4), "the checksum of frame 1 is wrong"),
        (
            MAGIC + sealed(b"\x01\0\0\0", b"\xc1")[:-4] + bytes(4),
            "the checksum of frame 1 is wrong",
        ),
        (MAGIC + b"\xff\xff\xff\xff", "never ready"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(OptionError, match=said):
        read_recording(path)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OptionError, match="file exists"):
        TraceWriter(path, CONFIG)
    assert path.read_text() == "precious"
    with pytest.raises(OptionError, match="no such file"):
        TraceWriter(tmp_path / "no" / "folder", CONFIG)


def test_a_server_that_was_never_ready_leaves_no_file(tmp_path: Path) -> None:
    TraceWriter(tmp_path / "file", CONFIG).close()
    assert not (tmp_path / "file").exists()


async def test_a_full_disk_ends_the_recording_and_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.O_EXCL", 0)
    await record(Path("/dev/full"), SamplingRunner(TIGHT))
    assert caplog.text.count("no space left on device".capitalize()) == 1


async def record_adapters(path: Path, folders: list[Path], *runners: FakeRunner) -> None:
    """Requests of three adapters in two places, and of the model; the first runner dies."""
    writer = TraceWriter(path, CONFIG)
    executor = TracingExecutor(WorkerOnThread(*runners), writer)
    async with serving(executor, observer=writer) as engine:
        catalog = AdapterCatalog(engine.adapters, (), AdapterConfig(directory=folders[0].parent))
        for number in range(4):
            versions = [await catalog.find(folder.name) for folder in folders]
            streams = [
                engine.submit(
                    [number, 1, 2],
                    SamplingParams(max_tokens=6),
                    SchedulingAttributes(adapter=version),
                )
                for version in (*versions, None)
            ]
            await asyncio.gather(*map(drain, streams))


async def test_adapters_are_loaded_again_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    folders = [write_adapter(tmp_path / "dir" / name, name) for name in "abc"]
    path = tmp_path / "recording"
    dying = AdapterRunner()
    dying.fail_at_step = 15
    await record_adapters(path, folders, dying, AdapterRunner())
    _, events = read_recording(path)
    recorded = list(events)
    assert any(isinstance(event, Loss) for event in recorded)

    async def replay(runner: FakeRunner, alone: bool) -> tuple[int, int]:
        executor = InlineExecutor(lambda _: runner)
        info = await executor.start(report_nothing)
        try:
            if alone:
                found = [d async for d in replay_alone(executor, info.limits, recorded)]
                return len(found), sum(d is not None for d in found)
            comparison = await replay_steps(executor, recorded)
            return comparison.num_tokens, comparison.num_different
        finally:
            await executor.close()

    for alone in (False, True):
        count, different = await replay(AdapterRunner(), alone)
        assert count >= 16
        assert different == 0
    write_adapter(folders[1], "another")
    for alone in (False, True):
        with pytest.raises(AdapterError, match="changed"):
            await replay(AdapterRunner(), alone)


async def test_an_adapter_goes_after_the_steps_that_were_sent_before_it(tmp_path: Path) -> None:
    """The second step is planned ahead: when its request ends, so that the adapter is removed and
    another one takes its place, it has no output yet."""
    sources = [
        AdapterSource(i, str(folder := write_adapter(tmp_path / name, name)), digest(folder))
        for i, name in ((1, "a"), (2, "b"))
    ]
    first, second = (expected_with(source.digest, [3, 4], 2) for source in sources)
    table, sampling = array("i", [0]).tobytes(), SamplingInput()

    def step(step_id: int, adapter: int, token_ids: list[int], start: int) -> StepInput:
        sequence = ScheduledSequence(adapter, token_ids, start, table, sampling, adapter_id=adapter)
        return StepInput(step_id, [sequence])

    events = [
        LoadAdapter(sources[0]),
        step(1, 1, [3, 4], 0),
        step(2, 1, [PLACEHOLDER_TOKEN_ID], 2),
        StepOutput(1, [first[0]]),
        RemoveAdapter(1),
        LoadAdapter(sources[1]),
        StepOutput(2, [first[1]]),
        step(3, 2, [3, 4], 0),
        StepOutput(3, [second[0]]),
    ]
    executor = InlineExecutor(lambda _: AdapterRunner(with_adapters(1)))
    await executor.start(report_nothing)
    try:
        comparison = await replay_steps(executor, events)
    finally:
        await executor.close()
    assert (comparison.num_tokens, comparison.num_different) == (3, 0)
