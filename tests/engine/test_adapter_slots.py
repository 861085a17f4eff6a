"""Adapters come and go beside the steps: which hold a place, which wait, what a loss changes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from glmserve.config import ReportProgress, SchedulerConfig
from glmserve.engine import (
    AdapterVersion,
    Engine,
    SchedulingAttributes,
    TokenStream,
)
from glmserve.errors import AdapterError, AdapterUnavailableError, InvalidRequestError
from glmserve.request import RequestStatus, SamplingParams
from support.adapters import (
    AdapterRunner,
    catalog_of,
    expected_with,
    version_of,
    with_adapters,
    write_adapter,
)
from support.exhaustive import exhaustive
from support.fakes import LIMITS, expected_output
from support.worker_on_thread import WorkerOnThread, drain, serving


def submit(
    engine: Engine, version: AdapterVersion | None, prompt: list[int], max_tokens: int = 5
) -> TokenStream:
    attributes = SchedulingAttributes(adapter=version)
    return engine.submit(prompt, SamplingParams(max_tokens=max_tokens), attributes)


def hold_open(engine: Engine, version: AdapterVersion) -> TokenStream:
    """A request that runs until it is closed."""
    return submit(engine, version, [9], 100)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_adapters_and_the_plain_model_share_steps_and_no_blocks(tmp_path: Path) -> None:
    """The same prompt under each: AdapterRunner fails where K/V cross."""
    runner = AdapterRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        catalog = catalog_of(engine)
        one = await catalog.add("one", write_adapter(tmp_path / "one", "1"))
        two = await catalog.add("two", write_adapter(tmp_path / "two", "2"))
        prompt = [*range(12)]
        for _ in range(2):  # the second time their blocks are cached
            streams = [submit(engine, version, prompt) for version in (None, one, two, None)]
            plain, first, second, again = await asyncio.gather(*map(drain, streams))
            assert plain == again == expected_output(prompt, 5)
            assert first == expected_with(one.digest, prompt, 5)
            assert second == expected_with(two.digest, prompt, 5)
        assert all(stream.request.num_cached_tokens == 8 for stream in streams)
        mixed = {frozenset(s.adapter_id for s in step.sequences) for step in runner.steps}
    assert frozenset({0, one.id, two.id}) in mixed


async def test_an_idle_adapter_makes_room_the_least_recently_used_first(tmp_path: Path) -> None:
    for name in "abc":
        write_adapter(tmp_path / name, name)
    runner = AdapterRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        catalog = catalog_of(engine, tmp_path)
        a, b, c = [await version_of(catalog, name) for name in "abc"]
        for version in (a, b, a, c, a, b):  # b, then c, then c's place
            assert await drain(submit(engine, version, [7])) == expected_with(
                version.digest, [7], 5
            )
        assert runner.loads == [a.id, b.id, c.id, b.id]
        assert engine.adapters.stats.evictions == 2
        assert runner.largest == 2


async def test_no_request_overtakes_one_that_waits_for_a_place(tmp_path: Path) -> None:
    """Not even for an adapter that is loaded; the plain model is another matter."""
    for name in "abc":
        write_adapter(tmp_path / name, name)
    async with serving(WorkerOnThread(AdapterRunner())) as engine:
        catalog = catalog_of(engine, tmp_path)
        a, b, c = [await version_of(catalog, name) for name in "abc"]
        busy = [hold_open(engine, a), hold_open(engine, b)]
        waiting = submit(engine, c, [1])
        later = submit(engine, a, [2])
        assert await drain(submit(engine, None, [3])) == expected_output([3], 5)
        assert waiting.request.status is later.request.status is RequestStatus.HELD
        assert {v.name: n for v, n in engine.adapters.waiting()} == {"c": 1, "a": 1}
        busy[1].close()
        assert await drain(waiting) == expected_with(c.digest, [1], 5)
        assert await drain(later) == expected_with(a.digest, [2], 5)
        busy[0].close()


async def test_a_client_that_leaves_the_line_holds_nobody_up(tmp_path: Path) -> None:
    for name in "abc":
        write_adapter(tmp_path / name, name)
    async with serving(WorkerOnThread(AdapterRunner(with_adapters(1)))) as engine:
        catalog = catalog_of(engine, tmp_path)
        a, b, c = [await version_of(catalog, name) for name in "abc"]
        busy = hold_open(engine, a)
        left, stays = submit(engine, b, [1]), submit(engine, c, [2])
        left.close()
        busy.close()
        assert await drain(stays) == expected_with(c.digest, [2], 5)
        assert not engine.is_busy


async def test_streams_go_on_while_an_adapter_is_read(tmp_path: Path) -> None:
    may_read = threading.Event()
    runner = AdapterRunner(may_read=may_read)
    async with serving(WorkerOnThread(runner)) as engine:
        loading = asyncio.create_task(
            catalog_of(engine).add("one", write_adapter(tmp_path / "one", "1"))
        )
        await until(lambda: engine.adapters.versions)
        assert await drain(submit(engine, None, [3], 20)) == expected_output([3], 20)
        assert not loading.done()
        may_read.set()
        version = await loading
        assert await drain(submit(engine, version, [3])) == expected_with(version.digest, [3], 5)


async def test_a_new_content_leaves_running_requests_theirs(tmp_path: Path) -> None:
    """The old one's place is free when its last request has ended."""
    folder = write_adapter(tmp_path / "one", "old")
    runner = AdapterRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        catalog = catalog_of(engine)
        old = await catalog.add("one", folder)
        prompt = [*range(8)]
        running = submit(engine, old, prompt, 60)
        write_adapter(folder, "new")
        new = await catalog.add("one", folder)
        assert (new.id, new.digest) != (old.id, old.digest)
        fresh = submit(engine, await version_of(catalog, "one"), prompt)
        assert await drain(fresh) == expected_with(new.digest, prompt, 5)
        assert fresh.request.num_cached_tokens == 0
        assert await drain(running) == expected_with(old.digest, prompt, 60)
        await until(lambda: runner.installed == {new.id: new.digest})
        assert await catalog.add("one", folder) is new
        assert runner.loads == [old.id, new.id]


async def test_an_unloaded_adapter_finishes_its_requests(tmp_path: Path) -> None:
    runner = AdapterRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        catalog = catalog_of(engine)
        version = await catalog.add("one", write_adapter(tmp_path / "one", "1"))
        running = submit(engine, version, [4], 60)
        assert await catalog.remove("one") is version
        assert await catalog.find("one") is None
        assert engine.adapters.num_requests(version) == 1
        assert await drain(running) == expected_with(version.digest, [4], 60)
        await until(lambda: not runner.installed)
        assert await catalog.remove("one") is None


async def test_a_folder_of_adapters_is_looked_at_anew(tmp_path: Path) -> None:
    async with serving(WorkerOnThread(AdapterRunner())) as engine:
        catalog = catalog_of(engine, tmp_path)
        assert await catalog.find("late") is None
        folder = write_adapter(tmp_path / "late", "1")
        first = await version_of(catalog, "late")
        assert await version_of(catalog, "late") is first
        assert await catalog.names() == {"late": folder}
        assert await catalog.remove("late") is first
        again = await catalog.remove("late")  # it is found anew, and nothing holds it
        assert again is not None
        first = await version_of(catalog, "late")
        write_adapter(folder, "22")
        second = await version_of(catalog, "late")
        assert second.id != first.id
        for file in folder.iterdir():
            file.unlink()
        assert await catalog.find("late") is None
        assert not await catalog.names()


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "../a", "/etc", "a\0", "a\nb", "x" * 300, "\ud800"]
)
async def test_no_name_leads_out_of_the_folder_of_adapters(tmp_path: Path, name: str) -> None:
    write_adapter(tmp_path / "inside", "1")
    write_adapter(tmp_path / "a", "1")
    async with serving(WorkerOnThread(AdapterRunner())) as engine:
        assert await catalog_of(engine, tmp_path / "inside").find(name) is None


async def test_a_refused_adapter_fails_its_requests_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(tmp_path / "bad", "refused")
    write_adapter(tmp_path / "good", "1")
    async with serving(WorkerOnThread(AdapterRunner(with_adapters(1)))) as engine:
        catalog = catalog_of(engine, tmp_path)
        bad, good = [await version_of(catalog, name) for name in ("bad", "good")]
        failed, fine = submit(engine, bad, [1]), submit(engine, good, [2])
        with pytest.raises(AdapterUnavailableError, match="'bad'") as error:
            await drain(failed)
        assert str(tmp_path) not in error.value.message
        assert str(tmp_path) in caplog.text
        assert await drain(fine) == expected_with(good.digest, [2], 5)
        with pytest.raises(AdapterError, match="does not fit"):
            await catalog.add("other", tmp_path / "bad")
        assert await catalog.find("other") is None
        assert not engine.is_busy
        assert engine.adapters.stats.failures == 2


async def test_names_and_ranks_that_a_server_cannot_have(tmp_path: Path) -> None:
    async with serving(WorkerOnThread(AdapterRunner())) as engine:
        catalog = catalog_of(engine)
        folder = write_adapter(tmp_path / "one", "1", r=65)
        for name in ("model", "", "a,b", "x" * 201, "a\n"):
            with pytest.raises(InvalidRequestError):
                await catalog.add(name, folder)
        with pytest.raises(AdapterError, match="--max-lora-rank 64"):
            await catalog.add("one", folder)
        for nowhere in (tmp_path / "nowhere", Path("a\0"), Path("\udcff")):
            with pytest.raises(AdapterError, match=r"no such folder|cannot be read"):
                await catalog.add("one", nowhere)


async def test_a_runner_without_room_refuses(tmp_path: Path) -> None:
    async with serving(WorkerOnThread(AdapterRunner(LIMITS))) as engine:
        with pytest.raises(AdapterError, match="--max-adapters"):
            await catalog_of(engine).add("one", write_adapter(tmp_path / "one", "1"))


async def test_a_new_runner_gets_the_adapters_of_the_lost_one(tmp_path: Path) -> None:
    """Streams do not notice. One whose folder has changed meanwhile ends with an error."""
    folders = {name: write_adapter(tmp_path / name, name) for name in "ab"}
    first, second = AdapterRunner(), AdapterRunner()
    first.fail_at_step = 12
    executor = WorkerOnThread(first, second)
    executor.may_restart.clear()
    async with serving(executor) as engine:
        catalog = catalog_of(engine)
        a, b = [await catalog.add(name, folder) for name, folder in folders.items()]
        streams = [submit(engine, version, [5], 30) for version in (a, b, None)]
        await until(lambda: executor.is_lost)
        write_adapter(folders["b"], "other")
        late = submit(engine, a, [6])
        executor.may_restart.set()
        assert await drain(streams[0]) == expected_with(a.digest, [5], 30)
        assert await drain(streams[2]) == expected_output([5], 30)
        assert await drain(late) == expected_with(a.digest, [6], 5)
        with pytest.raises(AdapterUnavailableError, match="'b'"):
            await drain(streams[1])
        assert second.installed == {a.id: a.digest}
        assert not engine.is_busy


async def test_an_adapter_that_is_read_when_the_runner_dies_is_read_again(tmp_path: Path) -> None:
    may_read = threading.Event()
    first, second = AdapterRunner(may_read=may_read), AdapterRunner()
    executor = WorkerOnThread(first, second)
    async with serving(executor) as engine:
        catalog = catalog_of(engine)
        loading = asyncio.create_task(catalog.add("one", write_adapter(tmp_path / "one", "1")))
        await until(lambda: engine.adapters.versions)
        executor.kill()
        may_read.set()
        version = await loading
        assert await drain(submit(engine, version, [4])) == expected_with(version.digest, [4], 5)
        assert second.installed == {version.id: version.digest}


class _SlowlyReady(WorkerOnThread):
    """Its next runner loads adapters before it counts as started."""

    def __init__(self, *runners: AdapterRunner) -> None:
        super().__init__(*runners)
        self.may_be_ready = asyncio.Event()

    async def restart(self, progress: ReportProgress, excused: int = 0) -> None:
        await super().restart(progress, excused)
        await self.may_be_ready.wait()


async def test_what_a_new_runner_has_loaded_already_is_not_loaded_again(tmp_path: Path) -> None:
    for name in "ab":
        write_adapter(tmp_path / name, name)
    second = AdapterRunner()
    executor = _SlowlyReady(AdapterRunner(), second)
    async with serving(executor) as engine:
        catalog = catalog_of(engine, tmp_path)
        a, b = [await version_of(catalog, name) for name in "ab"]
        await drain(submit(engine, a, [1]))
        executor.kill()
        await until(lambda: executor.excused and not executor.is_lost)
        stream = submit(engine, b, [4])
        await until(lambda: b.id in second.installed)
        executor.may_be_ready.set()
        assert await drain(stream) == expected_with(b.digest, [4], 5)
        assert second.loads == [b.id, a.id]


async def test_a_request_that_is_being_prepared_holds_what_its_name_meant(tmp_path: Path) -> None:
    """New contents and unloading wait for it, and nothing of it stays."""
    folder = write_adapter(tmp_path / "one", "1")
    runner = AdapterRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        catalog = catalog_of(engine, tmp_path)
        old = await version_of(catalog, "one")
        await drain(submit(engine, old, [1]))
        with engine.adapters.held(old):
            write_adapter(folder, "22")
            new = await version_of(catalog, "one")
            await drain(submit(engine, new, [1]))
            stream = submit(engine, old, [2])
        assert await drain(stream) == expected_with(old.digest, [2], 5)
        with engine.adapters.held(new):
            await catalog.remove("one")
            assert new in engine.adapters.versions
        await until(lambda: not runner.installed)
        assert not left_behind(engine)
        assert not engine.adapters._discarded


async def test_an_adapter_that_is_held_makes_room_at_last(tmp_path: Path) -> None:
    """Otherwise a request that holds it and waits in line could wait for itself."""
    for name in "ab":
        write_adapter(tmp_path / name, name)
    async with serving(WorkerOnThread(AdapterRunner(with_adapters(1)))) as engine:
        catalog = catalog_of(engine, tmp_path)
        a, b = [await version_of(catalog, name) for name in "ab"]
        await drain(submit(engine, a, [1]))
        with engine.adapters.held(a):
            await catalog.remove("a")
            assert await drain(submit(engine, b, [1])) == expected_with(b.digest, [1], 5)
            assert await drain(submit(engine, a, [1])) == expected_with(a.digest, [1], 5)


async def test_metrics_name_the_adapters_that_have_requests(tmp_path: Path) -> None:
    for name in "ab":
        write_adapter(tmp_path / name, name)
    async with serving(WorkerOnThread(AdapterRunner(with_adapters(1)))) as engine:
        catalog = catalog_of(engine, tmp_path)
        a, b = [await version_of(catalog, name) for name in "ab"]
        busy, waiting = hold_open(engine, a), submit(engine, b, [1])
        await until(lambda: engine.adapters.num_loaded)
        shown = generate_latest(engine.stats.registry).decode()
        assert 'glmserve_adapter_requests{adapter="a",state="running"} 1.0' in shown
        assert 'glmserve_adapter_requests{adapter="b",state="waiting"} 1.0' in shown
        assert "glmserve_adapter_slots 1.0" in shown
        busy.close()
        await drain(waiting)
        shown = generate_latest(engine.stats.registry).decode()
        assert "glmserve_adapter_requests{" not in shown
        assert "glmserve_adapter_evictions_total 1.0" in shown
        assert "glmserve_adapter_load_seconds_count 2.0" in shown


@pytest.mark.parametrize("seed", [0, 1, *map(exhaustive, range(2, 20))])
async def test_any_order_of_requests_loads_and_losses(tmp_path: Path, seed: int) -> None:
    """Each request has the tokens of the content that its name had when it came."""
    rng = random.Random(seed)
    limits = with_adapters(2, msgspec.structs.replace(LIMITS, num_blocks=16, max_sequences=5))
    runners = [AdapterRunner(limits) for _ in range(4)]
    for number, runner in enumerate(runners[:3]):
        runner.fail_at_step = 40 * number + rng.randrange(5, 30)
    names = "abcde"
    for name in names:
        write_adapter(tmp_path / name, name)
    executor = WorkerOnThread(*runners)
    async with serving(executor, SchedulerConfig(queue_size=1000)) as engine:
        catalog = catalog_of(engine, tmp_path)

        async def use() -> None:
            name = rng.choice([*names, None, None])
            version = await catalog.find(name) if name else None
            prompt = [rng.randrange(90) for _ in range(rng.randrange(1, 12))]
            count = rng.randrange(1, 25)
            stream = submit(engine, version, prompt, count)
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() / 50)
                stream.close()
                return
            try:
                tokens = await drain(stream)
            except AdapterUnavailableError:
                assert version is not None  # its content is gone, and the runner was lost
                return
            digest = None if version is None else version.digest
            want = (
                expected_with(digest, prompt, count) if digest else expected_output(prompt, count)
            )
            assert tokens == want

        async def operate() -> None:
            name = rng.choice(names)
            if rng.random() < 0.5:
                write_adapter(tmp_path / name, f"{name}{rng.randrange(3)}")
            elif rng.random() < 0.5:
                await catalog.remove(name)
            else:
                with contextlib.suppress(AdapterError):
                    await catalog.add(f"named {name}", tmp_path / name)

        tasks = []
        for number in range(120):
            tasks.append(asyncio.create_task(operate() if number % 6 == 0 else use()))
            await asyncio.sleep(rng.random() / 200)
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
        assert not engine.is_busy
        assert not left_behind(engine)


def left_behind(engine: Engine) -> list[object]:
    """What the slots know of requests."""
    slots = engine.adapters
    pinned = [slot for slot in slots._slots.values() if slot.users]
    return [*pinned, *slots._waiters, *slots._waiter_of, *slots._slot_of]


@pytest.mark.exhaustive
async def test_thousands_of_loads_and_unloads_leave_nothing(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "0")
    runner = AdapterRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        catalog = catalog_of(engine)
        plain = submit(engine, None, [1], 100)
        for number in range(3000):
            write_adapter(folder, str(number))
            version = await catalog.add(f"name {number % 7}", folder)
            if number % 3 == 0:
                await drain(submit(engine, version, [number % 50], 2))
            if number % 5 == 0:
                await catalog.remove(f"name {number % 7}")
        plain.close()
        for number in range(7):
            await catalog.remove(f"name {number}")
        await until(lambda: not runner.installed)
        slots = engine.adapters
        left = (slots._slots, slots._waiters, slots._waiter_of, slots._slot_of, slots._discarded)
        assert not any(left)
        assert not any((catalog._named, catalog._found, catalog._locks))
        assert runner.largest <= 2
