"""Answers to prompts that begin in the same way are a source of drafts for each other."""

from __future__ import annotations

import random
from array import array

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.step import StepOutput
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler import earlier_answers as module
from glmserve.scheduler.earlier_answers import Answers, EarlierAnswers
from support.fakes import LIMITS

LIMITS = msgspec.structs.replace(
    LIMITS, max_drafts=16, num_blocks=10_000, max_context=2048, max_step_tokens=512
)
SYSTEM = list(range(100, 140))
ANSWER = [7, 3, 9, 4, 8, 1, 6, 2, 5]


def ask(scheduler: Scheduler, number: int, prompt: list[int], **fields: bytes) -> int:
    """Have a request answered with ANSWER; returns the number of steps with tokens of it."""
    request = Request(number, prompt, SamplingParams(max_tokens=len(ANSWER)), **fields)
    scheduler.add(request)
    steps = 0
    while not request.status.is_finished:
        step = scheduler.schedule()
        assert step is not None
        (sequence,) = step.sequences
        done = max(0, sequence.start + len(sequence.token_ids) - len(prompt) - len(sequence.drafts))
        count = len(sequence.sampling_inputs)
        scheduler.update(StepOutput(step.step_id, (ANSWER + [0] * 20)[done : done + count]))
        steps += count > 0
    return steps


def server(*, shares: bool = True) -> Scheduler:
    config = SchedulerConfig(speculative_tokens=4, share_drafts=shares)
    return Scheduler(config, LIMITS, hash_key=b"key")


def test_a_second_request_gets_the_answer_of_the_first_one_as_drafts() -> None:
    scheduler = server()
    first = ask(scheduler, 0, [*SYSTEM, 50, 51])
    assert ask(scheduler, 1, [*SYSTEM, 60, 50, 51]) < first == len(ANSWER)
    assert scheduler.stats.accepted == scheduler.stats.drafted > 0


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ([1, *SYSTEM, 50, 51], {}),
        ([*SYSTEM, 50, 51], {"cache_salt": b"another tenant"}),
    ],
    ids=["another beginning", "another tenant"],
)
def test_other_requests_get_nothing_of_it(prompt: list[int], fields: dict[str, bytes]) -> None:
    scheduler = server()
    ask(scheduler, 0, [*SYSTEM, 50, 51])
    assert ask(scheduler, 1, prompt, **fields) == len(ANSWER)
    assert scheduler.stats.drafted == 0


def test_nothing_is_kept_without_the_option() -> None:
    scheduler = server(shares=False)
    ask(scheduler, 0, [*SYSTEM, 50, 51])
    assert ask(scheduler, 1, [*SYSTEM, 50, 51]) == len(ANSWER)


def test_a_guess_ends_where_an_answer_ends() -> None:
    answers = Answers()
    answers.add(array("i", [1, 2, 3]))
    answers.add(array("i", [4, 5, 6, 7]))
    assert answers.continuation(array("i", [9, 1, 2]), 5) == [3]
    assert answers.match_length == 2
    assert answers.continuation(array("i", [4, 5, 6]), 5) == [7]
    assert answers.continuation(array("i", [2, 3]), 5) == []
    assert answers.match_length == 0


def test_of_many_answers_the_later_half_stays() -> None:
    rng, answers = random.Random(0), Answers()
    texts = [array("i", [rng.randrange(10_000) for _ in range(100)]) for _ in range(100)]
    for text in texts:
        answers.add(text)
        answers.continuation(text, 1)
    assert answers.continuation(texts[-1][:10], 3) == texts[-1][10:13].tolist()
    assert answers.continuation(texts[0][:10], 3) == []
    assert sum(len(index.text) for index in answers._indexes) <= 2 * module._MAX_TOKENS


def test_groups_that_were_not_used_for_longest_are_forgotten() -> None:
    earlier = EarlierAnswers()
    requests = [
        Request(i, [i] * 40, SamplingParams(max_tokens=1)) for i in range(module._MAX_GROUPS + 1)
    ]
    first = earlier.of(requests[0])
    for request in requests:
        earlier.of(requests[0])
        earlier.of(request)
    assert earlier.of(requests[0]) is first
    assert len(earlier._groups) == module._MAX_GROUPS
