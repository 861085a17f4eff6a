"""Options, one frozen class per owner. Values are checked where they are made: in the cli."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

LoadPhase = Literal["weights", "graphs"]
LoadFormat = Literal["auto", "dummy"]
DTypeName = Literal["auto", "float32", "float16", "bfloat16"]
RopeScaling = Literal["positions", "base"]
Quantization = Literal["int8", "int4", "w8a8", "w4a8"]
WeightBits = Literal[8, 4]
KvCacheDType = Literal["auto", "int8", "fp8"]
AttentionName = Literal["auto", "native", "triton", "xformers", "sdpa"]
CpuKernels = Literal["auto", "native", "torch"]

EMBEDDED_CHECKPOINT = Path(__file__).parent / "assets" / "glm-tiny"
"""The model that is served when none is named."""


@dataclass(frozen=True)
class ConversionConfig:
    """What `glmserve convert` does. Crosses to a process of its own as JSON."""

    source: str
    """Folder with config.json and weights, or one weights file with config.json beside it."""
    target: str
    """Folder to write; must not hold anything."""
    bits: WeightBits
    """Of the layers' linear weights."""
    group_size: int | None
    """Columns that share a scale; None: whole rows."""

    @property
    def partial(self) -> str:
        """Where the target is written until it is whole."""
        return f"{self.target}.partial"


class RunnerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a device needs to build its Runner. Crosses to the worker process."""

    checkpoint: str
    """Folder with config.json and weights, or one weights file with config.json beside it."""
    ptuning_checkpoint: str | None = None
    """A P-Tuning v2 prefix for it: folder with config.json and weights, or one weights file."""
    device: str = "auto"
    load_format: LoadFormat = "auto"
    """`dummy` makes seeded random weights from config.json alone."""
    dtype: DTypeName = "auto"
    quantization: Quantization | None = None
    """What to make of linear weights that are not quantised in the checkpoint."""
    rope_scaling: RopeScaling | None = None
    """What rope_ratio means, where the checkpoint does not tell."""
    seed: int = 0
    """Seeds dummy weights."""
    max_model_len: int | None = None
    max_batch_size: int = 64
    max_step_tokens: int | None = None
    """New tokens in one step; None lets the device choose."""
    drafts: bool = False
    """Whether steps will hold drafts: a device that cannot do them refuses before it loads."""
    block_size: int | None = None
    """Token slots per KV block; None lets the device choose."""
    kv_cache_dtype: KvCacheDType = "auto"
    """How K and V are kept; auto keeps them in the dtype of the activations."""
    attention_backend: AttentionName = "auto"
    cpu_kernels: CpuKernels = "auto"
    """Whose kernels a CPU computes with: our own, where they were compiled, or torch's."""
    deterministic: bool = False
    """Results of a request are the same bits whatever shares its batch."""
    kv_cache_memory: int | None = None
    """Bytes for the KV cache; None lets the device choose."""
    kv_cache_tokens: int | None = None
    """Token slots instead of bytes."""
    gpu_memory_utilization: float | None = None
    """Share of a GPU's total memory for weights, activations and KV cache together; None: all that
    is free."""
    threads: int | None = None
    """CPU threads for compute; None lets the device choose."""
    cpus: tuple[int, ...] | None = None
    """Logical CPUs that the worker may run on, checked to be there; None: wherever the server may.
    For the cpu device."""
    numa_node: int | None = None
    """The node that `cpus` belong to, whose memory is taken while there is any."""
    debug: bool = False
    """What fails in the worker is shown with its traceback."""
    vocab_limit: int | None = None
    """Ids from here on are never sampled: rows of the output layer above the tokenizer's ids."""
    never_sampled: tuple[int, ...] = ()
    """Further ids, below that limit, that are no token of the tokenizer's."""


@dataclass(frozen=True)
class SchedulerConfig:
    """What the scheduler decides beyond the runner's limits."""

    max_batch_size: int = 64
    """Requests in one step."""
    max_step_tokens: int | None = None
    """New tokens in one step, prefill and decode together; None leaves it to the runner."""
    queue_size: int = 0
    """Requests of one tenant that may wait; 0 means no bound."""
    queue_timeout: float = 0.0
    """Seconds that a request may wait before it is begun; 0: any time. The engine's to watch."""
    prefix_cache: bool = True
    speculative_tokens: int = 0
    """Tokens of one request to guess ahead in a step; 0 guesses none."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """Shares of tenants in relation to each other; 1 for those who are not named."""


@dataclass(frozen=True)
class SupervisionConfig:
    """How a worker process is watched, and replaced when it has died."""

    step_timeout: float = 300.0
    """Seconds after which a step is taken for one that will never end; 0: never."""
    load_timeout: float = 900.0
    """Seconds without progress after which loading is taken for hung; 0: never."""
    max_restarts: int = 5
    """Within ten minutes."""


@dataclass(frozen=True)
class Tenant:
    """Who sends requests: the holder of an API key, or of several."""

    name: str
    """No secret: it stands in logs and metrics."""
    weight: float = 1.0
    """The share of the model in relation to other tenants'."""
    priority: int | None = None
    """The most urgent that its requests may have (lower runs first); None: any."""
    max_requests: int = 0
    """That it may have under way at once, waiting ones included; 0: no limit."""
    tokens_per_minute: int = 0
    """Of prompts and answers; 0: no limit."""


DEFAULT_TENANT = Tenant("")
"""Whose requests are where no keys are asked for."""


@dataclass(frozen=True)
class JournalConfig:
    """What outlives the server, and for how long."""

    folder: Path
    keep: float = 600.0
    """Seconds for which clients may come back for an answer."""
    max_bytes: int = 2**30


@dataclass(frozen=True)
class ServerConfig:
    """What the HTTP layer needs to know."""

    served_model_name: str
    further_model_names: tuple[str, ...] = ()
    """Other names that mean the same model."""
    queue_full_status: int = 429
    max_body_size: int = 8 * 2**20
    """Bytes of a request's body."""
    api_keys: Mapping[str, Tenant] = field(default_factory=dict)
    """Whose they are. All of them are valid; none: nobody needs one."""
    shared_prefixes: bool = False
    """Tenants find each other's prompts in the prefix cache, and can tell by the time it saves."""
    admin_key: str | None = None
    """Of the operator, for /admin; None: nobody may use it."""
    public_metrics: bool = False
    """/metrics needs no key."""
    public_docs: bool = False
    """/docs and /openapi.json need no key."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the server; `*` is any."""
    cache_size: int = 0
    """Requests whose answers are kept for when they come again; 0 keeps none."""
    cache_list_size: int = 1
    """Answers to each of them, of which one is then given at random."""
    response_store_size: int = 1000
    """Responses of /v1/responses that are kept for later ones to go on from; 0 keeps none."""
    seed: int = 0
    """Seeds requests that bring no seed of their own, in order of arrival."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every name that a request may ask for; the model's own comes first."""
        return self.served_model_name, *self.further_model_names


@dataclass(frozen=True)
class ConnectionConfig:
    """How long clients may take, and how many there may be. Times are seconds; 0: no limit."""

    header_timeout: float = 10.0
    """From the first byte of a request's head to its last, and for a TLS handshake."""
    body_timeout: float = 30.0
    """Without a byte of a body that is not complete."""
    idle_timeout: float = 75.0
    """Without a request."""
    write_timeout: float = 60.0
    """Without taking anything of what was written."""
    max_connections: int = 4096


class LoadProgress(NamedTuple):
    """How far a runner has come in starting."""

    phase: LoadPhase = "weights"
    done: int = 0
    """Bytes of weights, or graphs recorded."""
    total: int = 0


ReportProgress = Callable[[LoadProgress], None]
"""Called while a runner starts."""


def report_nothing(progress: LoadProgress) -> None:
    """For those who do not want to know."""
