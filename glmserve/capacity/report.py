"""What plans say: for each number of servers, what users would see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from glmserve.capacity.simulation import Outcome
from glmserve.contract.step import RunnerLimits
from glmserve.errors import OptionError


class Targets(NamedTuple):
    """What 95 of 100 requests, and tokens, are to be served within; None: no target. Seconds."""

    first_token: float | None
    gap: float | None

    @property
    def any(self) -> bool:
        """Whether there is a target."""
        return self != (None, None)


class Plan(NamedTuple):
    """A number of servers, and what users would see of them."""

    replicas: int
    batch_size: int
    outcomes: Sequence[Outcome]
    """Of each server."""

    @property
    def first_tokens(self) -> list[float]:
        """Of all requests, ascending."""
        return sorted(t for outcome in self.outcomes for t in outcome.first_tokens)

    @property
    def gaps(self) -> list[float]:
        """Between two tokens of all requests, ascending."""
        return sorted(t for outcome in self.outcomes for t in outcome.gaps)

    @property
    def num_refused(self) -> int:
        return sum(outcome.num_refused for outcome in self.outcomes)

    @property
    def tokens_per_second(self) -> float:
        """Of all servers together."""
        end = max(outcome.end for outcome in self.outcomes)
        return sum(outcome.num_tokens for outcome in self.outcomes) / end if end else 0.0

    @property
    def busy(self) -> float:
        """Share of their time in which the servers compute, 0 to 1."""
        total = sum(outcome.end for outcome in self.outcomes)
        return sum(outcome.busy for outcome in self.outcomes) / total if total else 0.0

    def meets(self, targets: Targets) -> bool:
        """Whether every request is served, and the targets are kept."""
        return (
            not self.num_refused
            and _is_within(percentile(self.first_tokens, 0.95), targets.first_token)
            and _is_within(percentile(self.gaps, 0.95), targets.gap)
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the ascending values do not exceed; 0 if there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _is_within(seconds: float, target: float | None) -> bool:
    return target is None or seconds <= target


def table(plans: Iterable[Plan], targets: Targets) -> Iterator[str]:
    """A line for each plan."""
    yield (
        f"{'servers':>7} {'batch':>6} {'first token p50':>16} {'p95':>9} {'token p50':>10} "
        f"{'p95':>9} {'tokens/s':>9} {'busy':>5}  targets"
    )
    for plan in plans:
        first, gaps = plan.first_tokens, plan.gaps
        kept = "" if not targets.any else "kept" if plan.meets(targets) else "missed"
        if plan.num_refused:
            kept = f"{plan.num_refused} requests do not fit"
        yield (
            f"{plan.replicas:7} {plan.batch_size:6} {percentile(first, 0.5):14.3f} s "
            f"{percentile(first, 0.95):7.3f} s {1000 * percentile(gaps, 0.5):7.1f} ms "
            f"{1000 * percentile(gaps, 0.95):6.1f} ms {plan.tokens_per_second:9.1f} "
            f"{plan.busy:5.0%}  {kept}".rstrip()
        )


def verdict(plans: Sequence[Plan], targets: Targets, limits: RunnerLimits) -> tuple[int, str]:
    """The exit code, and the answer; it is empty if nothing was asked but figures."""
    if any(plan.num_refused for plan in plans):
        return 1, (
            f"A request has {limits.max_context} tokens of context, prompt and answer together, "
            f"and {limits.token_capacity} of KV cache; longer ones are refused by any number of "
            "servers."
        )
    if not targets.any:
        return 0, ""
    kept = [plan for plan in plans if plan.meets(targets)]
    if not kept:
        return 1, "None of these keeps the targets."
    best = min(kept, key=lambda plan: (plan.replicas, -plan.batch_size))
    servers = "1 server" if best.replicas == 1 else f"{best.replicas} servers"
    return 0, f"{servers} with --max-batch-size {best.batch_size} will do."


def plot(plans: Sequence[Plan], targets: Targets, path: Path) -> None:
    """Draw both p95 over the number of servers.

    Raises:
        OptionError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise OptionError("--plot needs matplotlib; pip install 'glmserve[bench]'") from None
    figure = Figure(figsize=(9, 4), layout="constrained")
    sides = figure.subplots(1, 2)
    for axes, name, target in (
        (sides[0], "first token, p95", targets.first_token),
        (sides[1], "between tokens, p95", targets.gap),
    ):
        for batch in sorted({plan.batch_size for plan in plans}):
            own = [plan for plan in plans if plan.batch_size == batch]
            values = [p.first_tokens if axes is sides[0] else p.gaps for p in own]
            axes.plot(
                [plan.replicas for plan in own],
                [percentile(ascending, 0.95) for ascending in values],
                marker="o",
                label=f"--max-batch-size {batch}",
            )
        if target is not None:
            axes.axhline(target, color="grey", linestyle="--", label="target")
        axes.set(xlabel="servers", ylabel=f"{name} (s)", ylim=(0, None))
        axes.legend()
    figure.savefig(path)
