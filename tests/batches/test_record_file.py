"""Output files grow by whole lines, whatever happens."""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.batches.answers import AnswerFiles
from glmserve.batches.database import Database
from glmserve.batches.id_set import IdSet
from glmserve.batches.record_file import RecordError, RecordFile
from glmserve.batches.storage import BatchStorage
from glmserve.config import BatchConfig
from glmserve.errors import OptionError, StartupError


def record(custom_id: str, size: int = 0) -> bytes:
    return b'{"custom_id":"%s","x":"%s"}\n' % (custom_id.encode(), b"x" * size)


def test_a_file_that_is_cut_anywhere_has_the_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "out"
    whole = b"".join(record(str(number)) for number in range(3))
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        file = RecordFile(path)
        complete = whole[:length].count(b"\n")
        assert list(file.ids()) == [str(number) for number in range(complete)]
        file.append([record("new")])
        file.close()
        assert path.read_bytes() == b"".join(map(record, map(str, range(complete)))) + record("new")


def test_a_long_incomplete_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(record("a") + b"x" * 200_000)
    file = RecordFile(path)
    assert list(file.ids()) == ["a"]
    file.close()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of this process end at 10,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_a_line_that_the_disk_does_not_take_leaves_no_trace(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "out")
    file.append([record("a", 6000)])
    with pytest.raises(OSError) as error:
        file.append([record("b", 100), record("c", 6000)])
    assert error.value.errno == errno.EFBIG
    assert list(file.ids()) == ["a"]
    file.append([record("d", 100)])
    assert list(file.ids()) == ["a", "d"]
    file.close()


@pytest.mark.usefixtures("small_disk")
async def test_answers_that_the_disk_does_not_take_can_be_written_later(tmp_path: Path) -> None:
    answers = AnswerFiles(tmp_path / "out", tmp_path / "errors")
    await answers.add("a", record("a", 9000), has_failed=False)
    with pytest.raises(OSError, match="large"):
        await answers.add("b", record("b", 9000), has_failed=False)
    await answers.add("b", record("b", 9000), has_failed=True)
    assert (answers.num_completed, answers.num_failed) == (1, 1)
    assert "b" in answers.done
    answers.close()


async def test_answers_of_one_moment_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    append = RecordFile.append

    def counted(file: RecordFile, lines: list[bytes]) -> None:
        writes.append(len(lines))
        append(file, lines)

    monkeypatch.setattr(RecordFile, "append", counted)
    answers = AnswerFiles(tmp_path / "out", tmp_path / "errors")
    names = [str(number) for number in range(50)]
    await asyncio.gather(*(answers.add(n, record(n), has_failed=False) for n in names))
    assert sum(writes) == 50
    assert len(writes) <= 2
    answers.close()


async def test_an_answer_is_written_although_its_writer_is_cancelled(tmp_path: Path) -> None:
    answers = AnswerFiles(tmp_path / "out", tmp_path / "errors")
    task = asyncio.create_task(answers.add("a", record("a"), has_failed=False))
    await asyncio.sleep(0)
    task.cancel()
    await answers.settle()
    assert "a" in answers.done
    answers.close()


def test_two_answers_to_one_request_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(record("a"))
    (tmp_path / "errors").write_bytes(record("a"))
    with pytest.raises(RecordError, match="twice"):
        AnswerFiles(tmp_path / "out", tmp_path / "errors")


def test_ids_are_kept_in_little_memory() -> None:
    ids = IdSet()
    for number in range(50_000):
        assert ids.add(f"request-{number}")
    assert len(ids) == 50_000
    assert not ids.add("request-7")
    assert "request-49999" in ids
    assert "request-50000" not in ids
    assert len(ids._table) * 8 <= 50_000 * 32


async def test_a_folder_belongs_to_one_server(tmp_path: Path) -> None:
    storage = BatchStorage(BatchConfig(tmp_path))
    with pytest.raises(OptionError, match="in use by another server"):
        BatchStorage(BatchConfig(tmp_path))
    await storage.close()
    await BatchStorage(BatchConfig(tmp_path)).close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"--batch-dir .*: not a directory"):
        BatchStorage(BatchConfig(tmp_path / "file"))
    (tmp_path / "batches.sqlite").write_text("no database" * 100)
    with pytest.raises(StartupError, match=r"move .*batches\.sqlite"):
        Database(tmp_path)


async def test_leftovers_of_a_killed_server_are_deleted(tmp_path: Path) -> None:
    storage = BatchStorage(BatchConfig(tmp_path))
    _, upload = await storage.begin_upload("me")
    upload.write(b"half")
    await storage.close()  # without an end of the upload
    upload._file.close()
    await BatchStorage(BatchConfig(tmp_path)).close()
    assert list(storage.path("").iterdir()) == []
