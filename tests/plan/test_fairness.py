"""Every tenant gets its share, whatever the others ask for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepOutput
from glmserve.errors import QueueFullError
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler.fairness import FairShares

LIMITS = RunnerLimits(
    num_blocks=400, block_size=4, max_sequences=8, max_step_tokens=32, max_context=400
)
CONFIG = SchedulerConfig(max_batch_size=8)


class Bench:
    """A scheduler and requests that say 7 until they are through."""

    def __init__(self, limits: RunnerLimits = LIMITS, config: SchedulerConfig = CONFIG) -> None:
        self.scheduler = Scheduler(config, limits, hash_key=b"key")
        self.requests: list[Request] = []
        self.served: Counter[str] = Counter()
        """By tenant, as FairShares counts."""

    def add(
        self, tenant: str, num_prompt_tokens: int, max_tokens: int, priority: int = 0
    ) -> Request:
        number = len(self.requests)
        prompt = [number * 1000 + i for i in range(num_prompt_tokens)]
        params = SamplingParams(max_tokens=max_tokens)
        request = Request(number, prompt, params, priority, tenant=tenant)
        self.scheduler.add(request)
        self.requests.append(request)
        return request

    def step(self) -> None:
        step = self.scheduler.schedule()
        assert step is not None
        for sequence in step.sequences:
            tenant = self.requests[sequence.request_id].tenant
            self.served[tenant] += len(sequence.token_ids) + (sequence.sampling is not None)
        sampled = [7 for sequence in step.sequences if sequence.sampling is not None]
        self.scheduler.update(StepOutput(step.step_id, sampled))

    def steps_until(self, request: Request, num_output_tokens: int) -> int:
        steps = 0
        while request.num_output_tokens < num_output_tokens:
            self.step()
            steps += 1
        return steps


class TestFloods:
    def test_a_thousand_requests_of_another_do_not_hold_up_a_first_token(self) -> None:
        bench = Bench()
        for _ in range(1000):
            bench.add("flood", 20, 200)
        for _ in range(50):
            bench.step()
        for _ in range(20):
            request = bench.add("guest", 12, 5)
            assert bench.steps_until(request, 1) == 1
            bench.steps_until(request, 5)

    def test_but_urgent_requests_go_on_meanwhile(self) -> None:
        bench = Bench()
        urgent = bench.add("flood", 4, 200, priority=-1)
        usual = bench.add("flood", 4, 200)
        bench.steps_until(usual, 3)
        before = urgent.num_output_tokens, usual.num_output_tokens
        guest = bench.add("guest", 12, 5)
        assert bench.steps_until(guest, 1) == 1
        assert (urgent.num_output_tokens, usual.num_output_tokens) == (before[0] + 1, before[1])

    def test_nor_does_a_long_prompt(self) -> None:
        bench = Bench()
        bench.add("flood", 390, 2)
        bench.step()
        assert bench.steps_until(bench.add("guest", 12, 5), 1) == 1

    def test_nor_a_full_cache(self) -> None:
        limits = RunnerLimits(
            num_blocks=100, block_size=4, max_sequences=64, max_step_tokens=64, max_context=400
        )
        bench = Bench(limits, SchedulerConfig())
        for _ in range(100):
            bench.add("flood", 20, 200)
        for _ in range(50):
            bench.step()
        assert bench.steps_until(bench.add("guest", 30, 5), 1) == 1

    def test_places_are_shared_by_weight(self) -> None:
        config = SchedulerConfig(max_batch_size=8, tenant_weights={"heavy": 3.0})
        bench = Bench(config=config)
        for tenant in ("light", "heavy"):
            for _ in range(20):
                bench.add(tenant, 4, 300)
        for _ in range(30):
            bench.step()
        running = [r.tenant for r in bench.requests if r.status is RequestStatus.RUNNING]
        assert Counter(running) == {"heavy": 6, "light": 2}

    def test_who_alone_is_there_has_it_all(self) -> None:
        bench = Bench()
        for _ in range(20):
            bench.add("flood", 4, 60)
        guest = bench.add("guest", 4, 3)
        bench.steps_until(guest, 3)
        bench.step()
        assert bench.scheduler.stats.running == 8

    def test_the_queues_bound_is_each_tenants_own(self) -> None:
        bench = Bench(config=SchedulerConfig(max_batch_size=1, queue_size=2))
        first = bench.add("flood", 4, 60)
        bench.step()
        assert first.status is RequestStatus.RUNNING
        for _ in range(2):
            bench.add("flood", 4, 60)
        try:
            bench.add("flood", 4, 60)
        except QueueFullError:
            bench.add("guest", 4, 60)
        else:
            raise AssertionError("the queue has no bound")


@st.composite
def tenants(draw: st.DrawFn) -> dict[str, tuple[float, list[tuple[int, int]]]]:
    """Weights, and requests of (prompt tokens, output tokens) in turn for each tenant."""
    sizes = st.tuples(st.integers(1, 120), st.integers(1, 60))
    one = st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.lists(sizes, min_size=1, max_size=4))
    return {f"tenant {i}": draw(one) for i in range(draw(st.integers(2, 4)))}


@settings(max_examples=60, deadline=None)
@given(plan=tenants())
@pytest.mark.slow
def test_tenants_that_always_wait_are_served_alike(
    plan: dict[str, tuple[float, list[tuple[int, int]]]],
) -> None:
    """However large and many their requests are.

    The bound is VTC's: twice what a full batch of the longest requests may be served.
    """
    weights = {tenant: weight for tenant, (weight, _) in plan.items()}
    bench = Bench(config=SchedulerConfig(max_batch_size=8, tenant_weights=weights))
    for tenant, (_, sizes) in plan.items():
        for number in range(120):
            bench.add(tenant, *sizes[number % len(sizes)])
    least_work = min(
        sum(prompt + 2 * output for prompt, output in sizes) / len(sizes) * 120 / weight
        for weight, sizes in plan.values()
    )
    while min(bench.served[tenant] / weights[tenant] for tenant in plan) < least_work / 3:
        bench.step()
        shares = [bench.served[tenant] / weights[tenant] for tenant in plan]
        longest = 120 + 2 * 60
        assert max(shares) - min(shares) <= 2 * 8 * longest / min(weights.values())


class TestCounters:
    def request(self, tenant: str) -> Request:
        return Request(0, [1], SamplingParams(max_tokens=1), tenant=tenant)

    def test_a_pause_saves_up_no_turns(self) -> None:
        shares = FairShares({})
        shares.enter(self.request("busy"))
        shares.enter(self.request("other"))
        shares.leave(self.request("other"))
        shares.charge(self.request("busy"), 1000, samples=True)
        shares.enter(self.request("other"))
        assert shares.service_order("other")[0] == shares.service_order("busy")[0] == 1001

    def test_nor_does_it_make_debts_forgotten(self) -> None:
        shares = FairShares({"greedy": 0.5})
        shares.enter(self.request("busy"))
        shares.enter(self.request("greedy"))
        shares.charge(self.request("greedy"), 100, samples=False)
        shares.leave(self.request("greedy"))
        shares.enter(self.request("greedy"))
        assert shares.service_order("greedy")[0] == 200
        assert shares.service_order("busy")[0] == 0
