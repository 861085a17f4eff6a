"""The kit finds planted faults, each by the check that is meant for it; the cpu device passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve import conformance
from glmserve.devices import registry
from glmserve.devices.base import Device
from support import faulty_devices as faulty
from support.contract_plugin import WITH_PLUGIN

CHECKS = Path(conformance.__file__).parent / "checks"

FAULTS: list[tuple[faulty.Fault, str]] = [
    (faulty.wrong_rotary_pairs, "test_numerics.py::test_a_prompt_and_six_tokens[7-base]"),
    (faulty.next_slot, "test_chunks.py::test_any_chunk_size[7]"),
    (faulty.leaking_lane, "test_company.py::test_texts_side_by_side[base]"),
    (faulty.masked_by_zero, "test_company.py::test_blocks_that_held_nan"),
    (faulty.more_sequences_than_computed, "test_limits.py::test_a_step_of_the_most_sequences"),
    (faulty.more_tokens_than_computed, "test_limits.py::test_a_step_of_the_most_tokens"),
    (faulty.one_list_of_ids, "test_reports.py::test_given_ids_are_reported"),
    (faulty.ignored_masks, "test_sampling.py::test_masks_hold_for_their_own_rows"),
    (
        faulty.numbers_by_place,
        "test_sampling.py::test_a_key_gives_the_same_token_whatever_else_is_chosen",
    ),
    (faulty.one_adapter_for_all, "test_adapters.py::test_texts_side_by_side"),
    (faulty.adapters_that_stay, "test_adapters.py::test_room_is_used_again"),
    (faulty.immortal, "test_life.py::test_a_closed_runner_and_a_new_one"),
]


def run_checks(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester.runpytest_inprocess(
        *(*WITH_PLUGIN, "-p", "no:cacheprovider", "--import-mode=importlib"), *arguments
    )


@pytest.mark.parametrize(("fault", "check"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_is_found(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fault: faulty.Fault, check: str
) -> None:
    original = registry.load_device

    def load_device(name: str) -> Device:
        return faulty.FaultyDevice(fault) if name == "faulty" else original(name)

    # Each run imports the checks anew, and so this function.
    monkeypatch.setattr(registry, "load_device", load_device)
    path = str(CHECKS / check)
    run_checks(pytester, path, "--glmserve-device", "cpu").assert_outcomes(passed=1)
    run_checks(pytester, path, "--glmserve-device", "faulty").assert_outcomes(failed=1)


@pytest.mark.exhaustive
def test_the_cpu_device_passes(pytester: pytest.Pytester) -> None:
    result = run_checks(pytester, "--glmserve-device", "cpu", "-q")
    outcomes = result.parseoutcomes()
    assert set(outcomes) <= {"passed", "skipped"}, outcomes
    assert outcomes["passed"] > 90


def test_without_the_option_nothing_is_checked(pytester: pytest.Pytester) -> None:
    result = run_checks(pytester, str(CHECKS / "test_limits.py"))
    assert set(result.parseoutcomes()) == {"skipped"}
