"""Where a prompt's context ends, and what its text stands for."""

from __future__ import annotations

import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.prompt_layout import PromptLayout, PromptMarks
from glmserve.errors import InvalidRequestError
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from support.fakes import LIMITS

MARKS = PromptMarks(gmask_id=101, mask_id=100, sop_id=104)


@pytest.mark.parametrize(
    ("prompt", "layout"),
    [
        ([7, 8, 101, 104], PromptLayout(3, 2)),
        ([7, 101, 8, 104, 9, 9], PromptLayout(3, 1)),
        ([7, 100, 8, 104], PromptLayout(3, 1)),
        ([100, 7, 101, 104], PromptLayout(3, 2)),  # [gMASK] counts before [MASK]
        ([101, 101, 104, 104], PromptLayout(2, 0)),  # the first of each
        ([104, 7, 101], PromptLayout(0, 2)),  # an empty context
        (MARKS.shortest_prompt, PromptLayout(1, 0)),
    ],
)
def test_layout(prompt: list[int], layout: PromptLayout) -> None:
    assert MARKS.layout(prompt) == layout


@pytest.mark.parametrize("prompt", [[7, 8], [7, 101], [7, 104]])
def test_a_missing_mark(prompt: list[int]) -> None:
    with pytest.raises(InvalidRequestError, match=r"\(id 101\).*usually end with 101, 104") as e:
        MARKS.layout(prompt)
    assert e.value.param == "prompt"


def test_the_prompt_of_such_a_model_has_no_log_probabilities() -> None:
    limits = type(LIMITS)(
        64, 4, 16, 128, 128, chunked_prefill=False, prefix_cache=False, prompt_marks=MARKS
    )
    scheduler = Scheduler(SchedulerConfig(), limits, hash_key=b"key")
    with pytest.raises(InvalidRequestError, match="in both directions") as e:
        scheduler.add(Request(0, [7, 101, 104], SamplingParams(max_tokens=1, prompt_logprobs=1)))
    assert e.value.param == "logprobs"
    assert not scheduler.has_work
