"""What `glmserve top` shows: numbers of the last seconds, and the requests that are there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glmserve.engine import Moment, RequestFacts

PERIOD = 5.0
"""Seconds over which numbers are taken."""


@dataclass
class _Row:
    facts: RequestFacts
    state: str = "queue"
    output: int = 0
    cached: int = 0


class TopView:
    """Everything known from the moments so far."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque()
        self._rows: dict[int, _Row] = {}

    def take(self, moment: Moment) -> None:
        """Add the next moment."""
        self._moments.append(moment)
        while self._moments[0].time < moment.time - PERIOD:
            self._moments.popleft()
        for facts in moment.arrived:
            self._rows.setdefault(facts.id, _Row(facts))
        working = {work.id for work in moment.work}
        for id_, row in self._rows.items():
            if row.state != "queue" and id_ not in working:
                row.state = "paused"
        for work in moment.work:
            if (worked := self._rows.get(work.id)) is not None:
                worked.state = "prefill" if work.prefill or work.recomputed else "decode"
                worked.output += work.decoded
                worked.cached = worked.cached or work.cached
        for ended in moment.ended:
            self._rows.pop(ended.id, None)

    def lines(self, width: int, height: int) -> list[str]:
        """The picture.

        Args:
            width, height: of the terminal, in characters.
        """
        lines = [*self._numbers(), "", *self._table(height - 7)]
        return [line[:width] for line in lines[:height]]

    def _numbers(self) -> Iterator[str]:
        last, moments = self._moments[-1], self._moments
        seconds = max(0.1, last.time - moments[0].time)
        steps = sum(m.steps for m in moments)
        stats = last.stats
        step_time = sum(m.step_seconds for m in moments) / steps if steps else None
        first = sorted(value for m in moments for value in m.first_tokens)
        middle = sorted(m.gaps[0] for m in moments if m.gaps)
        most = sorted(m.gaps[1] for m in moments if m.gaps)
        used = stats.get("used_blocks", 0) / max(1, last.num_blocks)
        yield (
            f"{sum(m.tokens for m in moments) / seconds:,.0f} tokens/s   "
            f"{steps / seconds:,.0f} steps/s of {_ms(step_time)}   "
            f"running {stats.get('running', 0)}   waiting {stats.get('waiting', 0)}"
        )
        yield (
            f"first token {_ms(_at(first, 0.5))}, 95 % within {_ms(_at(first, 0.95))}   "
            f"between tokens {_ms(_at(middle, 0.5))}, 95 % within {_ms(_at(most, 0.95))}"
        )
        yield (
            f"KV cache {used:.0%}   prompts cached "
            f"{_share(stats.get('prefix_hits', 0), stats.get('prefix_queries', 0))}   "
            f"guesses kept {_share(stats.get('accepted', 0), stats.get('drafted', 0))}   "
            f"preemptions {stats.get('preemptions', 0)}"
        )

    def _table(self, most: int) -> Iterator[str]:
        yield f"{'id':>8}  {'key':<16} {'prio':>4}  {'state':<8} {'prompt':>7} {'cached':>7} " + (
            f"{'output':>7}  {'age':>8}"
        )
        now, rows = self._moments[-1].time, list(self._rows.values())
        for row in rows[: max(0, most)]:
            facts = row.facts
            yield (
                f"{facts.id:>8}  {facts.tenant[:16]:<16} {facts.priority:>4}  {row.state:<8} "
                f"{facts.prompt_tokens:>7} {row.cached:>7} {row.output:>7}  "
                f"{now - facts.arrival:>6.1f} s"
            )
        if len(rows) > most:
            yield f"... and {len(rows) - max(0, most)} more"


def _at(values: Sequence[float], share: float) -> float | None:
    return values[int((len(values) - 1) * share)] if values else None


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f} ms"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
