"""Measuring, checking and tuning operations that are plain torch, on a GPU that is none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kernel_bench
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.paged_prefill.split_plan import query_tiles
from glmserve_kernels.registry import load
from glmserve_kernels.tiles import Tiles, load_tiles
from gpu_ceilings import Ceilings, measure
from gpu_timing import Timer
from kernel_arguments import DeviceMaker, copies, fit
from kernel_baselines import baseline
from kernel_bench import Bench, measure_case, tune
from kernel_check import check_operation, check_served
from kernels import line, run

CPU = torch.device("cpu")
TILES: Tiles = {"any": {"BLOCK": 64}}


def double(x: Tensor, out: Tensor, tiles: Tiles) -> float:
    """Writes all but the last number; fast with blocks of 16."""
    out[:-1] = 2 * x[:-1]
    return 1e-5 * max(tiles["any"]["BLOCK"] / 16, 16 / tiles["any"]["BLOCK"])


def doubled(x: Tensor, out: Tensor) -> dict[str, Tensor]:
    expected = 2 * x.double()
    expected[-1] = float("nan")
    return {"out": expected}


def make(maker: Maker, size: int) -> Arguments:
    return {"x": maker.normal(size), "out": maker.poisoned(size)}


DOUBLE = Operation(
    name="double",
    launch=double,
    reference=doubled,
    outputs=("out",),
    cases=(Case("5", partial(make, size=5)),),
    served=(Case("1000", partial(make, size=1000)),),
    work=lambda x, out: Work(bytes=2 * x.nbytes, flops=10**6),
)


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("kernel_bench", "kernels"):
        monkeypatch.setattr(f"{module}.load_tiles", lambda name, chip: TILES)


@pytest.fixture
def bench(timer: Timer) -> Bench:
    return Bench(CPU, "sm_90", timer, Ceilings(4e9, 1e12), l2_bytes=16_000)


class TestCheck:
    def faults(self, launch: Callable[..., Any]) -> list[str]:
        return check_operation(replace(DOUBLE, launch=launch), "sm_90", CPU, TILES)

    def test_right(self) -> None:
        assert self.faults(double) == []

    def test_wrong_numbers(self) -> None:
        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> None:
            out[:-1] = 2.1 * x[:-1]

        assert len(self.faults(launch)) == 3  # one for each dtype
        assert "out is off by 5." in self.faults(launch)[0]

    def test_a_number_that_was_not_written(self) -> None:
        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> None:
            out[:-2] = 2 * x[:-2]

        assert "not finite" in self.faults(launch)[0]

    def test_a_number_too_many(self) -> None:
        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> None:
            out[:] = 2 * x

        assert "must not be" in self.faults(launch)[0]

    def test_other_chips_cases_are_left_out(self) -> None:
        other = replace(DOUBLE, chips=("gfx942",), launch=None)
        assert check_operation(other, "sm_90", CPU, TILES) == []


class TestMeasure:
    def test_a_row(self, bench: Bench) -> None:
        row = measure_case(DOUBLE, DOUBLE.served[0], bench)
        assert row["us"] == pytest.approx(40, rel=0.01)
        assert row["floor_us"] == pytest.approx(1)  # 4 kB at 4 GB/s
        assert row["bound"] == "memory"
        assert row["fraction"] == pytest.approx(1 / 40, rel=0.01)
        assert row["gigabytes_per_second"] == pytest.approx(0.1, rel=0.01)
        assert row["sets"] == 16
        assert not row["in_l2"]
        assert row["dtype"] == "bfloat16"
        assert "1000 " in line(row)

    def test_inputs_are_put_back_and_that_is_not_counted(self, bench: Bench) -> None:
        seen: list[float] = []

        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> float:
            seen.append(float(x[0]))
            seconds = double(x, out, tiles)
            x.zero_()
            return seconds

        overwriting = replace(DOUBLE, launch=launch, scratch=("x",))
        row = measure_case(overwriting, DOUBLE.served[0], bench)
        assert row["us"] == pytest.approx(40, rel=0.01)
        assert len({number for number in seen[1:] if number}) == 1
        assert all(seen)

    def test_wrong_results_are_not_timed(self, bench: Bench, timer: Timer) -> None:
        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> None:
            out[:-1] = 2.1 * x[:-1] if len(x) > 5 else 2 * x[:-1]

        with pytest.raises(ArithmeticError, match="off by"):
            measure_case(replace(DOUBLE, launch=launch), DOUBLE.served[0], bench)
        outcomes = list(run(replace(DOUBLE, launch=launch), [*DOUBLE.served], bench, tuning=False))
        assert len(outcomes) == 1
        assert str(outcomes[0]).startswith("double 1000: ArithmeticError: out is off by")

    def test_choices_are_only_checked_in_small_cases(self, bench: Bench) -> None:
        choosing = replace(
            DOUBLE,
            launch=lambda x, out, tiles: out.zero_(),
            reference=lambda x, out: {"out": torch.ones(9)},
            outputs=("out",),
        )
        case = Case("9", lambda maker: {**make(maker, 9), "out": torch.empty(9, dtype=torch.int64)})
        assert check_served(choosing, case, Maker(CPU, torch.float32), TILES) == []

    def test_an_operation_with_faults_is_not_measured(self, bench: Bench, timer: Any) -> None:
        faulty = replace(DOUBLE, launch=lambda **_: None)
        outcomes = list(run(faulty, [*DOUBLE.served], bench, tuning=False))
        assert timer.graphs == []
        assert [type(outcome) for outcome in outcomes] == [str] * 3

    def test_an_error_of_one_case_is_not_the_others(self, bench: Bench) -> None:
        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> float:
            if len(x) == 7:
                raise TypeError("no such tile")
            return double(x, out, tiles)

        cases = [Case("7", partial(make, size=7)), *DOUBLE.served]
        broken, measured = run(replace(DOUBLE, launch=launch), cases, bench, tuning=False)
        assert broken == "double 7: TypeError: no such tile"
        assert isinstance(measured, dict)
        assert measured["case"] == "1000"


class TestTune:
    def test_finds_better_tiles(self, bench: Bench) -> None:
        tiles, changes = tune(DOUBLE, bench)
        assert tiles == {"any": {"BLOCK": 16}}
        assert changes == ["any: {'BLOCK': 16}, 4.00 times as fast"]

    def test_keeps_them_if_the_better_ones_are_wrong(self, bench: Bench) -> None:
        def launch(x: Tensor, out: Tensor, tiles: Tiles) -> float:
            seconds = double(x, out, tiles)
            if tiles["any"]["BLOCK"] < 64:
                out[0] = 1e3
            return seconds

        tiles, changes = tune(replace(DOUBLE, launch=launch), bench)
        assert tiles == TILES
        assert "not taken" in changes[0]

    def test_spilling_ones_are_not_tried(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spilling = contextlib.nullcontext([type("Kernel", (), {"n_spills": 8})])
        monkeypatch.setattr(kernel_bench, "launched_kernels", lambda: spilling)
        assert tune(DOUBLE, bench) == (TILES, [])


class TestArguments:
    def test_copies_are_equal_and_elsewhere(self) -> None:
        first, second = copies(make(DeviceMaker(CPU, torch.float32), 9), 2)
        assert torch.equal(first["x"], second["x"])
        assert first["x"].data_ptr() != second["x"].data_ptr()

    def test_prompts_are_cut_into_the_tiles_of_the_chip(self) -> None:
        operation = load("paged_prefill")
        arguments = operation.cases[1].make(Maker(CPU, torch.float16))  # 5 and 66 new tokens
        for block, tokens in ((16, 1), (128, 8)):
            refit = fit("paged_prefill", arguments, {"16-bit cache": {"BLOCK_M": block}})
            assert refit["tokens_per_tile"] == tokens
            wanted = query_tiles(np.array([5, 66]), tokens)
            np.testing.assert_array_equal(refit["items"].numpy(), wanted)

    def test_products_are_split_as_the_chip_wants(self) -> None:
        operation = load("quantized_matmul")
        case = next(case for case in operation.served if case.name.startswith("int8-1x4608"))
        arguments = case.make(Maker(torch.device("meta"), torch.float16))
        tiles = load_tiles("quantized_matmul", "sm_90")
        one = {**tiles, "int8-m16": {**tiles["int8-m16"], "PROGRAMS": 1}}
        assert fit("quantized_matmul", arguments, one)["partial"] is None
        assert fit("quantized_matmul", arguments, tiles)["partial"].shape[0] > 1


class TestBaselines:
    @pytest.mark.parametrize(
        "name", ["rms_norm", "silu_and_mul", "batch_invariant_matmul", "copy_blocks"]
    )
    def test_computes_the_same(self, name: str) -> None:
        operation = load(name)
        for case in operation.cases:
            if name == "copy_blocks" and case.name != "scales":
                continue
            arguments = case.make(Maker(CPU, torch.float32))
            if name == "copy_blocks":  # no padding, no block that is read after it was written
                arguments["pairs"] = torch.tensor([[3, 0], [1, 4]], dtype=torch.int32)
            expected = operation.reference(**arguments)
            found = baseline(name, arguments)
            assert found is not None
            got = found[1]()
            assert isinstance(got, Tensor)
            want = expected.get("out", expected.get("cache"))
            assert want is not None
            known = ~want.isnan()
            torch.testing.assert_close(got.double()[known], want[known], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["paged_decode", "paged_prefill", "quantized_matmul"])
    def test_has_the_same_shape(self, name: str) -> None:
        operation = load(name)
        case = operation.cases[2 if name == "paged_prefill" else 3]
        arguments = case.make(Maker(CPU, torch.float32))
        found = baseline(name, arguments)
        assert found is not None
        got = found[1]()
        assert isinstance(got, Tensor)
        assert got.numel() == arguments["out"].numel()

    def test_a_chunk_sees_what_was_before_it(self) -> None:
        arguments = load("paged_prefill").cases[2].make(Maker(CPU, torch.float32))  # 33 after 100
        found = baseline("paged_prefill", arguments)
        assert found is not None
        assert torch.isfinite(found[1]()).all()  # type: ignore[arg-type]

    def test_none(self) -> None:
        assert baseline("rope_cache", {}) is None


def test_ceilings_are_bytes_and_operations_over_time(timer: Timer, bench: Bench) -> None:
    class OneSecond:
        record = timer.record

        def seconds(self, work: Callable[[], object]) -> float:
            work()
            return 1.0

    found = measure(OneSecond(), "cpu", side=64)
    assert found == Ceilings(2 * 2**22, 2 * 64**3)
