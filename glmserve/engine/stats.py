"""The engine's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from glmserve import __version__
from glmserve.contract.step import RunnerInfo
from glmserve.engine.histogram import CountingHistogram
from glmserve.engine.token_stream import TokenStream
from glmserve.executor import RankState
from glmserve.request import FINISH_REASONS
from glmserve.scheduler import SchedulerStats

_LATENCY_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 60.0),
)
_LENGTH_BUCKETS = tuple(2**i for i in range(18))
"""Tokens: 1 to 131,072."""


class EngineStats:
    """Counters and histograms that the engine feeds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.num_steps = 0
        """Steps executed."""
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first token."
        )
        self._inter_token = CountingHistogram(
            "glmserve_inter_token_latency_seconds",
            "Between two tokens of one request.",
            _LATENCY_BUCKETS,
        )
        self.registry.register(self._inter_token)
        self._token_time = self._histogram(
            "time_per_output_token_seconds",
            "Mean of a request: from its first token to its end, by the tokens behind the first.",
        )
        self._request_time = self._histogram(
            "request_duration_seconds", "From a request's arrival to its last token."
        )
        self._queue_time = self._histogram(
            "request_queue_seconds", "From a request's arrival until it was given blocks."
        )
        self._prefill_time = self._histogram(
            "request_prefill_seconds", "From a request's first blocks to its first token."
        )
        self._decode_time = self._histogram(
            "request_decode_seconds", "From a request's first token to its end."
        )
        self._prompt_lengths = self._histogram(
            "request_prompt_tokens", "Prompt tokens of a request.", _LENGTH_BUCKETS
        )
        self._output_lengths = self._histogram(
            "request_output_tokens", "Tokens sampled for a request.", _LENGTH_BUCKETS
        )
        self._prompt_tokens = Counter(
            "glmserve_prompt_tokens", "Prompt tokens of finished requests.", registry=self.registry
        )
        self._output_tokens = Counter(
            "glmserve_output_tokens", "Tokens sampled.", registry=self.registry
        )
        self._steps = Counter("glmserve_steps", "Steps executed.", registry=self.registry)
        self._worker_restarts = Counter(
            "glmserve_worker_restarts",
            "Workers that were replaced after their death.",
            registry=self.registry,
        )
        self._restart_time = Counter(
            "glmserve_worker_restart_seconds",
            "Time without a worker, from the death of one until the next generates.",
            registry=self.registry,
        )
        self._finished = Counter(
            "glmserve_requests_finished",
            "Requests that ended, by reason.",
            labelnames=["reason"],
            registry=self.registry,
        )

        self._refused = Counter(
            "glmserve_requests_refused",
            "Requests that were sent away for want of room, time or quota, by error code.",
            labelnames=["code"],
            registry=self.registry,
        )
        self._tenant_tokens = Counter(
            "glmserve_tenant_tokens",
            "Tokens of finished requests, by the name of their API key.",
            labelnames=["tenant", "kind"],
            registry=self.registry,
        )

    def _histogram(
        self, name: str, documentation: str, buckets: Sequence[float] = _LATENCY_BUCKETS
    ) -> Histogram:
        return Histogram(f"glmserve_{name}", documentation, buckets=buckets, registry=self.registry)

    def watch(self, read: Callable[[], SchedulerStats], info: RunnerInfo) -> None:
        """Report the scheduler's numbers at each scrape. They cost nothing between scrapes."""
        self.registry.register(_SchedulerCollector(read, info.limits.num_blocks))
        self.registry.register(_InfoCollector(info))

    def watch_ranks(self, read: Callable[[], Sequence[RankState]]) -> None:
        """Report the worker processes at each scrape; a model in one process has rank 0 only."""
        self.registry.register(_RankCollector(read))

    def step_done(self, num_tokens: int) -> None:
        """Count a step, and the tokens that it delivered."""
        self.num_steps += 1
        self._steps.inc()
        self._output_tokens.inc(num_tokens)

    def worker_restarted(self, seconds: float) -> None:
        """Count a restart of the worker that took `seconds`, from the loss until it generates."""
        self._worker_restarts.inc()
        self._restart_time.inc(seconds)

    def first_token(self, seconds: float) -> None:
        """Record the time from a request's arrival to its first token."""
        self._first_token.observe(seconds)

    def inter_token(self, seconds: float, count: int) -> None:
        """Record the time between two tokens of a request, for `count` requests."""
        self._inter_token.observe(seconds, count)

    def refused(self, code: str) -> None:
        """Count a refused request, by its error code."""
        self._refused.labels(code).inc()

    def request_done(self, stream: TokenStream, now: float) -> None:
        """Count a request that has ended.

        Args:
            now: clock reading, seconds.
        """
        request = stream.request
        self._finished.labels(FINISH_REASONS[request.status]).inc()
        self._prompt_tokens.inc(request.num_prompt_tokens)
        if request.tenant:
            self._tenant_tokens.labels(request.tenant, "prompt").inc(request.num_prompt_tokens)
            self._tenant_tokens.labels(request.tenant, "output").inc(request.num_output_tokens)
        self._prompt_lengths.observe(request.num_prompt_tokens)
        self._output_lengths.observe(request.num_output_tokens)
        if not request.in_background:
            self._observe_times(stream, now)

    def _observe_times(self, stream: TokenStream, now: float) -> None:
        request = stream.request
        self._request_time.observe(now - stream.arrival)
        if stream.begun is not None:
            self._queue_time.observe(stream.begun - stream.arrival)
        if stream.begun is not None and stream.first_token is not None:
            self._prefill_time.observe(stream.first_token - stream.begun)
            decode_time = now - stream.first_token
            self._decode_time.observe(decode_time)
            if request.num_output_tokens > 1:
                self._token_time.observe(decode_time / (request.num_output_tokens - 1))


class _InfoCollector(Collector):
    """Facts that do not change, as labels of gauges that are 1."""

    def __init__(self, info: RunnerInfo) -> None:
        limits = info.limits
        self._build = {"version": __version__, "device": info.device, "dtype": info.dtype}
        self._cache = {
            "block_size": str(limits.block_size),
            "num_blocks": str(limits.num_blocks),
            "kv_cache_bytes": str(info.kv_cache_bytes),
        }

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for name, text, labels in (
            ("build_info", "The server, its device and the dtype of activations.", self._build),
            ("cache_info", "The KV cache: tokens of a block, blocks, bytes.", self._cache),
        ):
            family = GaugeMetricFamily(f"glmserve_{name}", text, labels=list(labels))
            family.add_metric(list(labels.values()), 1)
            yield family


class _RankCollector(Collector):
    def __init__(self, read: Callable[[], Sequence[RankState]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("glmserve_rank_up", "1: the rank's worker runs.", labels=["rank"])
        steps = GaugeMetricFamily(
            "glmserve_rank_steps", "Steps that the rank's present worker has done.", labels=["rank"]
        )
        losses = CounterMetricFamily(
            "glmserve_rank_losses",
            "Times the rank's worker ended and its group was replaced.",
            labels=["rank"],
        )
        for rank, state in enumerate(self._read()):
            up.add_metric([str(rank)], float(state.is_up))
            steps.add_metric([str(rank)], state.steps)
            losses.add_metric([str(rank)], state.losses)
        yield from (up, steps, losses)


class _SchedulerCollector(Collector):
    def __init__(self, read: Callable[[], SchedulerStats], num_blocks: int) -> None:
        self._read = read
        self._num_blocks = num_blocks

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self._read()
        for name, text, value in (
            ("requests_running", "Requests that hold blocks.", stats.running),
            ("requests_waiting", "Requests that wait for blocks or a place.", stats.waiting),
            (
                "background_requests",
                "Requests of batches that have not ended; they count neither as running nor as "
                "waiting.",
                stats.background,
            ),
            ("kv_blocks_used", "KV cache blocks held by requests.", stats.used_blocks),
            ("kv_blocks", "KV cache blocks in all.", self._num_blocks),
            (
                "kv_cache_usage_ratio",
                "Fraction of the KV cache held by requests.",
                stats.used_blocks / self._num_blocks,
            ),
        ):
            yield GaugeMetricFamily(f"glmserve_{name}", text, value=value)
        for name, text, value in (
            ("preemptions", "Times a running request lost its blocks.", stats.preemptions),
            ("prefix_cache_queries", "Prompt tokens looked up.", stats.prefix_queries),
            ("prefix_cache_hits", "Prompt tokens found in the prefix cache.", stats.prefix_hits),
            ("drafted_tokens", "Tokens guessed ahead.", stats.drafted),
            ("accepted_tokens", "Guessed tokens that were right.", stats.accepted),
        ):
            yield CounterMetricFamily(f"glmserve_{name}", text, value=value)
