"""Any adapters in any batch: the bits of a sequence are those that it has alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmserve.adapters import lora as lora_settings
from glmserve.config import Quantization
from glmserve.models import lora_names
from glmserve.models.lora import WholeLora, read_lora_weights
from glmserve.ops.adapters.native import NativeLora
from glmserve.runner import adapters as runner_adapters
from support.golden import ATOL, read_logits
from support.lora import NAMES, random_adapter
from support.paged_model import Operations, PagedModel
from support.tiny_models import BASE, random_weights, reference_logits, write_checkpoint

TARGETS = list(NAMES.values())
FORMATS: list[tuple[torch.dtype, Quantization | None]] = [
    (torch.float32, None),
    (torch.bfloat16, None),
    (torch.float32, "int4"),
    (torch.bfloat16, "int8"),
    (torch.bfloat16, "w8a8"),
]

adapters = st.lists(
    st.tuples(
        st.integers(1, 64),
        st.lists(st.sampled_from(TARGETS), min_size=1, unique=True),
        st.sampled_from([None, [0], [1]]),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base"), BASE, random_weights(BASE))


@given(
    adapters=adapters,
    mix=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=2, max_size=6),
    which=st.sampled_from(FORMATS),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_mix_has_the_bits_of_each_alone(
    base: Path,
    tmp_path_factory: pytest.TempPathFactory,
    adapters: list[tuple[int, list[str], list[int] | None]],
    mix: list[tuple[int, int]],
    which: tuple[torch.dtype, Quantization | None],
    seed: int,
) -> None:
    dtype, quantization = which
    model = PagedModel(
        base, operations="native", dtype=dtype, quantization=quantization, adapters=len(adapters)
    )
    folder = tmp_path_factory.mktemp("adapters")
    ids = [0]
    for i, (rank, targets, layers) in enumerate(adapters):
        options = {"rank": rank, "targets": targets, "layers": layers, "seed": seed + i}
        ids.append(model.load_adapter(random_adapter(folder / str(i), BASE, **options)))
    rng = np.random.default_rng(seed)
    work = [(ids[a % len(ids)], rng.integers(0, 48, n).tolist()) for a, n in mix]
    alone = [model.logits(tokens, None, adapter) for adapter, tokens in work]
    sequences = [model.sequence(len(tokens)) for _, tokens in work]
    for sequence, (adapter, _) in zip(sequences, work, strict=True):
        sequence.adapter_id = adapter
    together = model.feed(*((s, tokens) for s, (_, tokens) in zip(sequences, work, strict=True)))
    for want, got in zip(alone, together, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("operations", ["native", "packed", "plain"])
@pytest.mark.parametrize(("dtype", "quantization"), FORMATS, ids=str)
def test_beside_every_number_format(
    base: Path,
    tmp_path: Path,
    operations: Operations,
    dtype: torch.dtype,
    quantization: Quantization | None,
) -> None:
    """An adapter moves the logits as it does in float64, up to the format's own error."""
    folder = random_adapter(tmp_path, BASE, rank=7)
    model = PagedModel(
        base, operations=operations, dtype=dtype, quantization=quantization, adapters=1
    )
    adapter, ids = model.load_adapter(folder), [3, 9, 30, 41, 7]
    weights = random_weights(BASE)
    merged = _merged(weights, folder)
    exact = reference_logits(BASE, merged, ids)
    error = np.abs(model.logits(ids, adapter_id=adapter) - exact).mean()
    plain_error = np.abs(model.logits(ids) - reference_logits(BASE, weights, ids)).mean()
    effect = np.abs(exact - reference_logits(BASE, weights, ids)).mean()
    assert error < 1.5 * plain_error + 1e-4
    assert effect > error  # 4 bits and random weights are the worst case


@pytest.mark.parametrize("operations", ["packed", "plain"])
def test_half_precision(base: Path, tmp_path: Path, operations: Operations) -> None:
    """In float16, which our own kernels do not know."""
    model = PagedModel(base, operations=operations, dtype=torch.float16, adapters=1)
    folder, ids = random_adapter(tmp_path, BASE, rank=7), [3, 9, 30, 41, 7]
    exact = reference_logits(BASE, _merged(random_weights(BASE), folder), ids)
    got = model.logits(ids, adapter_id=model.load_adapter(folder))
    assert np.abs(got - exact).mean() < 0.02


def _merged(weights: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """Weights with alpha / rank * B A added, alpha / rank = 2."""
    from safetensors.torch import load_file

    stored, merged = load_file(folder / "adapter_model.safetensors"), dict(weights)
    for name, b in stored.items():
        module, half, _ = name.partition(".lora_B")
        if half:
            target = module.removeprefix("base_model.model.") + ".weight"
            merged[target] = merged[target] + 2 * b @ stored[f"{module}.lora_A.weight"]
    return merged


class TestPlantedMistakes:
    """The comparison with PEFT finds each of them."""

    @staticmethod
    def error(golden_models: Path, name: str, base: str) -> float:
        model = PagedModel(golden_models / base, operations="native", adapters=1)
        adapter = model.load_adapter(golden_models / name)
        ids, want = read_logits(golden_models / name)[0]
        return float(np.abs(model.logits(ids, adapter_id=adapter) - want).max())

    def test_without_one(self, golden_models: Path) -> None:
        assert self.error(golden_models, "glm2_mha_lora", "glm2_mha") < ATOL
        assert self.error(golden_models, "glm_hf_lora", "glm_hf") < ATOL

    def test_keys_and_values_change_places(
        self, golden_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        targets = lora_names.lora_targets

        def swapped(config: object) -> dict[str, lora_names.Target]:
            found = targets(config)  # type: ignore[arg-type]
            key, value = (f"self_attn.{letter}_proj" for letter in "kv")
            return {**found, key: found[value], value: found[key]}

        monkeypatch.setattr("glmserve.models.lora_tensors.lora_targets", swapped)
        assert self.error(golden_models, "glm_hf_lora", "glm_hf") > 100 * ATOL

    def test_rows_of_heads_are_not_sorted(
        self, golden_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        targets = lora_names.lora_targets

        def unsorted(config: object) -> dict[str, lora_names.Target]:
            return {name: t._replace(heads=0) for name, t in targets(config).items()}  # type: ignore[arg-type]

        monkeypatch.setattr("glmserve.models.lora_tensors.lora_targets", unsorted)
        assert self.error(golden_models, "glm2_mha_lora", "glm2_mha") > 100 * ATOL

    def test_the_scale_of_rslora_is_that_of_lora(
        self, golden_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lora_settings.math, "sqrt", float)
        assert self.error(golden_models, "glm2_mha_lora", "glm2_mha") > 100 * ATOL

    def test_an_adapter_does_nothing(
        self, golden_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(NativeLora, "add", lambda *_: None)
        assert self.error(golden_models, "glm2_mha_lora", "glm2_mha") > 100 * ATOL


def test_reading_takes_one_thread_and_leaves_the_steps_theirs(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model = PagedModel(base, operations="packed", adapters=1)
        folder = random_adapter(tmp_path / "one", BASE)
        reads, may_end = Event(), Event()
        numbers = []

        def read(*arguments: Any) -> WholeLora:
            numbers.append(torch.get_num_threads())
            reads.set()
            assert may_end.wait(30)
            return read_lora_weights(*arguments)

        monkeypatch.setattr(runner_adapters, "read_lora_weights", read)
        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(model.load_adapter, folder)
            assert reads.wait(30)
            assert torch.get_num_threads() == 3
            may_end.set()
            reading.result()
            assert threads.submit(torch.get_num_threads).result() == 3
        assert numbers == [1]
    finally:
        torch.set_num_threads(usual)
