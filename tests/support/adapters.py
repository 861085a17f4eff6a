"""Folders of adapters without real weights, and a fake runner that holds them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from glmserve.adapters import digest
from glmserve.config import AdapterConfig
from glmserve.contract.adapter import NO_ADAPTER, AdapterSource
from glmserve.contract.step import (
    MaskSource,
    RunnerLimits,
    ScheduledSequence,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.engine import AdapterCatalog, AdapterVersion, Engine
from glmserve.errors import AdapterError
from support.fakes import LIMITS, FakeRunner, next_token

SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query_key_value"]}


def with_adapters(count: int, limits: RunnerLimits = LIMITS) -> RunnerLimits:
    return msgspec.structs.replace(limits, max_adapters=count)


def write_adapter(folder: Path, content: str, **settings: object) -> Path:
    """A folder as PEFT writes it. Its weights are the content, which only a fake runner takes.

    A reader finds the old content or the new one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("adapter_config.json", json.dumps({**SETTINGS, **settings})),
        ("adapter_model.safetensors", content),
    ):
        new = folder / f"{name}.new"
        new.write_text(text)
        new.replace(folder / name)
    return folder


def expected_with(folder_digest: str, prompt_ids: list[int], num_tokens: int) -> list[int]:
    """The tokens that AdapterRunner generates under an adapter of this content."""
    tokens = list(prompt_ids)
    for _ in range(num_tokens):
        tokens.append(next_token([*folder_digest.encode(), *tokens]))
    return tokens[len(prompt_ids) :]


class AdapterRunner(FakeRunner):
    """A FakeRunner whose tokens depend on the adapter's content as well.

    It fails where a step uses an adapter that is not loaded, where more are loaded than it has room
    for, and where K/V of one content are read under another.
    """

    def __init__(
        self, limits: RunnerLimits | None = None, may_read: threading.Event | None = None
    ) -> None:
        super().__init__(limits or with_adapters(2))
        self.installed: dict[int, str] = {}  # digest by id
        self.loads: list[int] = []
        self.largest = 0
        self.may_read = may_read
        self._content: list[str] = [""] * len(self.cache)  # by slot: under which it was written
        self._is_executing = False

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        self._is_executing = True
        try:
            return super().execute(step, masks)
        finally:
            self._is_executing = False

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        if self.may_read is not None:
            assert self.may_read.wait(timeout=30)
        if digest(Path(source.folder)) != source.digest:
            raise AdapterError(f"{source.folder}: its content has changed")
        if "refused" in (Path(source.folder) / "adapter_model.safetensors").read_text():
            raise AdapterError(f"{source.folder}: does not fit the model")

        def install() -> None:
            assert not self._is_executing
            assert source.id not in self.installed
            self.installed[source.id] = source.digest
            self.loads.append(source.id)
            self.largest = max(self.largest, len(self.installed))
            assert self.largest <= self.info.limits.max_adapters

        return install

    def remove_adapter(self, adapter_id: int) -> None:
        assert not self._is_executing
        del self.installed[adapter_id]

    def _check_limits(self, step: StepInput) -> None:
        super()._check_limits(step)
        for sequence in step.sequences:
            assert sequence.adapter_id in (NO_ADAPTER, *self.installed), "it is not loaded"

    def _choose(self, sequence: ScheduledSequence) -> int:
        return next_token([*self._content_of(sequence).encode(), *self._read(sequence)])

    def _write(self, sequence: ScheduledSequence) -> None:
        super()._write(sequence)
        for slot in self._slots(sequence, sequence.start, sequence.start + len(sequence.token_ids)):
            self._content[slot] = self._content_of(sequence)

    def _read(self, sequence: ScheduledSequence) -> list[int]:
        end = sequence.start + len(sequence.token_ids)
        own = self._content_of(sequence)
        assert all(self._content[slot] == own for slot in self._slots(sequence, 0, end)), (
            "K/V of another adapter"
        )
        return super()._read(sequence)

    def _content_of(self, sequence: ScheduledSequence) -> str:
        return self.installed.get(sequence.adapter_id, "")


def catalog_of(engine: Engine, directory: Path | None = None) -> AdapterCatalog:
    return AdapterCatalog(engine.adapters, ["model"], AdapterConfig(directory=directory))


async def version_of(catalog: AdapterCatalog, name: str) -> AdapterVersion:
    version = await catalog.find(name)
    assert version is not None
    return version
