"""The metrics as /metrics shows them: with the model's name, and under other servers' names too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.samples import Sample

from glmserve.engine.adapters.stats import REQUESTS, SLOTS, vllm_requests_info

_PREFIX = "glmserve_"


class MetricsView:
    """What an exposition format encodes in place of the registry.

    Args:
        registry: of the server's metrics.
        model_name: the label `model_name` of every sample.
        others: makes further families of the server's own.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        model_name: str,
        others: Callable[[list[Metric]], Iterator[Metric]] | None = None,
    ) -> None:
        self._registry = registry
        self._label = {"model_name": model_name}
        self._others = others

    def collect(self) -> Iterator[Metric]:
        """All families."""
        own = [_with_labels(family, self._label) for family in self._registry.collect()]
        yield from own
        if self._others is not None:
            yield from self._others(own)


def _with_labels(family: Metric, labels: Mapping[str, str]) -> Metric:
    copy = Metric(family.name, family.documentation, family.type, family.unit)
    copy.samples = [s._replace(labels={**labels, **s.labels}) for s in family.samples]
    return copy


class Counterpart(NamedTuple):
    """A metric of vLLM that is one of ours under another name."""

    name: str
    labels: Mapping[str, str] = {}
    """vLLM's names of our labels, where they differ."""


VLLM = {
    "requests_running": Counterpart("vllm:num_requests_running"),
    "requests_waiting": Counterpart("vllm:num_requests_waiting"),
    "kv_cache_usage_ratio": Counterpart("vllm:kv_cache_usage_perc"),
    "prefix_cache_queries": Counterpart("vllm:prefix_cache_queries"),
    "prefix_cache_hits": Counterpart("vllm:prefix_cache_hits"),
    "preemptions": Counterpart("vllm:num_preemptions"),
    "prompt_tokens": Counterpart("vllm:prompt_tokens"),
    "output_tokens": Counterpart("vllm:generation_tokens"),
    "requests_finished": Counterpart("vllm:request_success", {"reason": "finished_reason"}),
    "time_to_first_token_seconds": Counterpart("vllm:time_to_first_token_seconds"),
    "inter_token_latency_seconds": Counterpart("vllm:inter_token_latency_seconds"),
    "time_per_output_token_seconds": Counterpart("vllm:request_time_per_output_token_seconds"),
    "request_duration_seconds": Counterpart("vllm:e2e_request_latency_seconds"),
    "request_queue_seconds": Counterpart("vllm:request_queue_time_seconds"),
    "request_prefill_seconds": Counterpart("vllm:request_prefill_time_seconds"),
    "request_decode_seconds": Counterpart("vllm:request_decode_time_seconds"),
    "request_prompt_tokens": Counterpart("vllm:request_prompt_tokens"),
    "request_output_tokens": Counterpart("vllm:request_generation_tokens"),
    "cache_info": Counterpart("vllm:cache_config_info", {"num_blocks": "num_gpu_blocks"}),
}
"""By our names without the prefix. Source: vllm/v1/metrics/loggers.py, 0.33."""

_ENGINE = {"engine": "0"}
"""vLLM's label of one of several engines in a server; here it is one."""


def vllm_families(own: list[Metric]) -> Iterator[Metric]:
    """Our families under vLLM's names, for dashboards, autoscalers and routers made for it."""
    by_name = {family.name: family for family in own}
    if SLOTS in by_name and by_name[SLOTS].samples[0].value:
        yield vllm_requests_info(by_name[SLOTS], by_name[REQUESTS])
    for family in own:
        name = family.name.removeprefix(_PREFIX)
        if name == "http_requests":
            yield _by_class_of_status(family)
        elif (counterpart := VLLM.get(name)) is not None:
            renamed = Metric(counterpart.name, family.documentation, family.type, family.unit)
            renamed.samples = [_renamed(s, family.name, counterpart) for s in family.samples]
            yield renamed


def _renamed(sample: Sample, family: str, counterpart: Counterpart) -> Sample:
    labels = {counterpart.labels.get(name, name): value for name, value in sample.labels.items()}
    name = counterpart.name + sample.name.removeprefix(family)
    return sample._replace(name=name, labels={**_ENGINE, **labels})


def _by_class_of_status(family: Metric) -> Metric:
    """The counts of requests as prometheus-fastapi-instrumentator has them, which vLLM uses: by
    handler, method and 2xx, 4xx, 5xx."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for sample in family.samples:
        labels = sample.labels
        if sample.name.endswith("_total") and labels["status"] != "0":
            status = f"{labels['status'][0]}xx"
            counts[labels["route"], labels["method"], status] += int(sample.value)
    requests = CounterMetricFamily(
        "http_requests", family.documentation, labels=["handler", "method", "status"]
    )
    for values, count in counts.items():
        requests.add_metric(values, count)
    return requests
