"""Adapters beside each other and beside the model: only for devices that serve them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from glmserve.adapters import digest
from glmserve.conformance.adapters import write_adapter
from glmserve.conformance.driver import Driver, Piece, Text
from glmserve.conformance.kit import REPORTING, Kit, random_tokens
from glmserve.contract.adapter import NO_ADAPTER, AdapterRunner, AdapterSource
from glmserve.contract.step import Runner
from glmserve.devices.base import AdapterDevice
from glmserve.devices.registry import load_device
from glmserve.errors import AdapterError


@pytest.fixture(scope="module")
def folders(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of the base checkpoint, of different ranks."""
    base, parent = kit.checkpoint("base"), tmp_path_factory.mktemp("adapters")
    return [write_adapter(parent / str(rank), base, rank=rank, seed=rank) for rank in (1, 5, 8)]


@pytest.fixture
def runner(kit: Kit) -> Iterator[Runner]:
    """A runner with room for two."""
    if not isinstance(load_device(kit.device), AdapterDevice):
        pytest.skip(f"{kit.device} serves no adapters")
    made = kit.open(max_adapters=2, max_lora_rank=8)
    yield made
    made.close()


def load(runner: Runner, adapter_id: int, folder: Path) -> None:
    source = AdapterSource(adapter_id, str(folder), digest(folder))
    cast(AdapterRunner, runner).read_adapter(source)()


def remove(runner: Runner, adapter_id: int) -> None:
    cast(AdapterRunner, runner).remove_adapter(adapter_id)


def check(
    kit: Kit, driver: Driver, length: int, adapters: dict[int, Path | None], seed: int = 0
) -> None:
    """Texts with these adapters side by side, a prompt each and then two tokens, one by one."""
    texts: dict[int, Text] = {}
    for adapter_id in adapters:
        tokens = random_tokens(driver.runner, "base", length + 2, seed + adapter_id)
        texts[adapter_id] = driver.add(tokens)
        texts[adapter_id].adapter_id = adapter_id
    for size in (length, 1, 1):
        results = driver.compute([Piece(text, size, REPORTING) for text in texts.values()])
        for (adapter_id, text), result in zip(texts.items(), results, strict=True):
            rows = kit.rows("base", text.tokens, adapters[adapter_id])
            row = rows[text.computed - 1]
            kit.check_choice(driver.runner, result.token_id, result.logprobs, row)


def test_room(runner: Runner) -> None:
    assert runner.info.limits.max_adapters == 2


def test_texts_side_by_side(kit: Kit, runner: Runner, folders: list[Path]) -> None:
    """Two adapters and the plain model in each step."""
    load(runner, 1, folders[0])
    load(runner, 2, folders[1])
    check(kit, Driver(runner), 9, {NO_ADAPTER: None, 1: folders[0], 2: folders[1]})


def test_room_is_used_again(kit: Kit, runner: Runner, folders: list[Path]) -> None:
    """A larger adapter goes and a smaller one comes: nothing of the first is left."""
    load(runner, 1, folders[2])
    load(runner, 2, folders[1])
    remove(runner, 1)
    load(runner, 3, folders[0])
    check(kit, Driver(runner), 5, {3: folders[0], 2: folders[1], NO_ADAPTER: None})


def test_another_content_is_refused(runner: Runner, folders: list[Path]) -> None:
    source = AdapterSource(1, str(folders[0]), digest(folders[1]))
    with pytest.raises(AdapterError):
        cast(AdapterRunner, runner).read_adapter(source)
