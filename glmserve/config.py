"""Options, one frozen class for each part that reads them. The cli checks their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from glmserve.contract.shard import Group

LoadPhase = Literal["weights", "calibration", "graphs"]
LoadFormat = Literal["auto", "dummy"]
DTypeName = Literal["auto", "float32", "float16", "bfloat16"]
RopeScaling = Literal["positions", "base"]
Quantization = Literal["int8", "int4", "w8a8", "w4a8", "fp8"]
WeightBits = Literal[8, 4]
KvCacheDType = Literal["auto", "int8", "fp8"]
AttentionName = Literal["auto", "native", "triton", "xformers", "npu", "incre", "atb", "sdpa"]
CheckpointLayout = Literal["official", "modelslim"]
CpuKernels = Literal["auto", "native", "no-amx", "torch"]
GraphTarget = Literal["onnx", "onnxruntime", "openvino", "vacc", "compass"]
GraphAttention = Literal["lanes", "paged", "whole"]
SplitStrategy = Literal["greedy", "equal", "loose"]
PipelineSplit = Literal["memory", "equal"]

COMPILED_MANIFEST = "manifest.json"
"""The file that tells a folder of `glmserve compile` from a checkpoint."""

EMBEDDED_CHECKPOINT = Path(__file__).parent / "assets" / "glm-tiny"
"""The model that is served if the command line names none."""

DEFAULT_BATCH_SIZE = 64
"""Sequences in one step, where neither an option nor the device says otherwise."""


@dataclass(frozen=True)
class ConversionConfig:
    """Options of `glmserve convert`. Sent to the converter process as JSON."""

    source: str
    """Folder with config.json and weights, or one weights file with config.json beside it."""
    target: str
    """Folder to write; must be empty or not exist."""
    bits: WeightBits | None
    """Bits of the layers' linear weights; None: they keep their dtype."""
    group_size: int | None
    """Number of columns that share a scale; None: whole rows."""
    layout: CheckpointLayout = "official"
    rounds_activations: bool = False
    """W8A8 instead of weights alone; in the layout of ModelSlim."""
    calibration: int | None = None
    """Descriptor of a file with token ids, native int32: a text that shows the ranges of
    activations. None: they are rounded row by row."""
    merge_adapter: str | None = None
    """Folder of a LoRA adapter that is merged into the weights first."""

    @property
    def partial(self) -> str:
        """Folder that is written, and renamed to the target when it is complete."""
        return f"{self.target}.partial"


class CompilationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `glmserve compile`. Sent to the compiler's process as JSON."""

    source: str
    """Folder with config.json and weights, or one weights file with config.json beside it."""
    target: str
    """Folder to write; must be empty or not exist."""
    runtime: GraphTarget
    """What the graphs are for; `onnx`: standard operators only; vacc, compass: the compilers of
    Vastai and of Hexaflake."""
    ptuning_checkpoint: str | None = None
    """P-Tuning v2 prefix: a folder with config.json and weights, or one weights file."""
    attention: GraphAttention
    """lanes: static graphs, and a lane of the cache for each sequence; paged: one dynamic graph
    over a paged cache, by OpenVINO; whole: one static graph of a whole context, without a cache,
    of which Hexaflake's compiler makes base and incremental graphs."""
    dtype: DTypeName = "auto"
    quantization: Quantization | None = None
    """Format for linear weights that the checkpoint does not quantise; None: as they are."""
    total_len: int | None = None
    """Slots of a lane; None: the model's context, up to a limit."""
    prompt_len: int = 128
    """Tokens of a prompt that the base graph computes at once."""
    batch_sizes: tuple[int, ...] = (1, 8)
    """Lanes of each incremental graph."""
    split: int = 1
    """Parts into which the layers are cut, for as many devices."""
    split_strategy: SplitStrategy = "loose"
    device_memory: int | None = None
    """Bytes of each device; None: not limited."""
    rope_scaling: RopeScaling | None = None
    inspectable: bool = False
    """Write a graph whose outputs are all tensors of the model, too."""
    vendor_scripts: str | None = None
    """Folder of Hexaflake's published scripts, which compile and combine; None: they are not run.
    """

    @property
    def partial(self) -> str:
        """Folder that is written, and renamed to the target when it is complete."""
        return f"{self.target}.partial"


class CombinationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `glmserve combine`. Sent to its process as JSON."""

    folders: list[str]
    """Compiled folders."""
    target: str
    """Folder to write; must be empty or not exist."""

    @property
    def partial(self) -> str:
        """Folder that is written, and renamed to the target when it is complete."""
        return f"{self.target}.partial"


class NpuEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """Environment variables of Ascend NPUs, as the command line found them; None: not set."""

    visible_devices: str | None = None
    """ASCEND_RT_VISIBLE_DEVICES: numbers of the NPUs that the runtime shows."""
    bind_cpu: str | None = None
    """BIND_CPU: "0" leaves the worker on all CPUs."""
    allocator: str | None = None
    """PYTORCH_NPU_ALLOC_CONF"""
    task_queue: str | None = None
    """TASK_QUEUE_ENABLE"""


class GoldenDump(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `glmserve golden dump`. Sent to its process as JSON."""

    checkpoint: str
    target: str
    """Folder to write; must be empty or not exist."""
    ptuning_checkpoint: str | None
    rope_scaling: RopeScaling | None
    token_ids: list[int]
    """The sequence; empty: random ids."""
    reference: Literal["glmserve", "transformers"]
    dtype: Literal["float32", "float64"]


class TransformersTask(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts that transformers answers, greedily. Sent to its process as JSON."""

    checkpoint: str
    ptuning_checkpoint: str | None
    rope_scaling: RopeScaling | None
    device: str
    """cpu, cuda, or auto."""
    dtype: Literal["float32", "float16", "bfloat16"]
    threads: int | None
    prompts: list[list[int]]
    """Token ids; at least one prompt."""
    max_tokens: int
    """Of each answer."""
    batch_size: int
    """Prompts that are answered at the same time."""
    stop_ids: list[int]
    """Tokens that end an answer."""


class TransformersAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What transformers answered. Comes back as JSON."""

    token_ids: list[list[int]]
    """Of each prompt, without the token that ends the answer."""
    seconds: float
    """That all answers took together, without loading."""
    about: str
    """Version, device and number format."""


class RunnerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a device needs to build its Runner. Sent to the worker process."""

    checkpoint: str
    """Folder with config.json and weights, or one weights file with config.json beside it."""
    ptuning_checkpoint: str | None = None
    """P-Tuning v2 prefix: a folder with config.json and weights, or one weights file."""
    device: str = "auto"
    load_format: LoadFormat = "auto"
    """`dummy` makes seeded random weights from config.json alone."""
    dtype: DTypeName = "auto"
    quantization: Quantization | None = None
    """Format for linear weights that the checkpoint does not quantise; None: as they are."""
    rope_scaling: RopeScaling | None = None
    """Meaning of rope_ratio if the checkpoint does not define it."""
    seed: int = 0
    """Seed of dummy weights."""
    max_model_len: int | None = None
    """Maximum tokens of prompt and output together; None: the model's context."""
    max_batch_size: int | None = None
    """Maximum number of sequences in one step; None lets the device choose."""
    max_step_tokens: int | None = None
    """Maximum number of new tokens in one step; None lets the device choose."""
    adapters: tuple[tuple[str, str], ...] = ()
    """Names and folders of adapters that must fit the model: a worker looks at them before it loads
    the weights."""
    max_adapters: int = 0
    """Adapters that are loaded at the same time; 0: the server has none. A device without support
    refuses before it loads."""
    max_lora_rank: int = 64
    """Largest rank of a LoRA adapter."""
    max_prefix_length: int = 0
    """Most slots of a prefix adapter; 0: none can be loaded."""
    drafts: bool = False
    """Whether steps may contain drafts. A device without support refuses before it loads."""
    block_size: int | None = None
    """Token slots per KV block; None lets the device choose."""
    kv_cache_dtype: KvCacheDType = "auto"
    """Format of K and V in the cache; auto is the dtype of the activations."""
    attention_backend: AttentionName = "auto"
    cpu_kernels: CpuKernels = "auto"
    """Kernels on a CPU: glmserve's own (native) or torch's; auto: native if they are compiled."""
    deterministic: bool = False
    """Batch-invariant: a request's results do not depend on the other requests in its batch."""
    kv_cache_memory: int | None = None
    """Bytes for the KV cache; None lets the device choose."""
    kv_cache_tokens: int | None = None
    """Size of the KV cache in token slots instead of bytes."""
    gpu_memory_utilization: float | None = None
    """Share of a GPU's total memory for weights, activations and KV cache, 0 to 1; None: all free
    memory."""
    threads: int | None = None
    """CPU threads for compute; None lets the device choose."""
    cpus: tuple[int, ...] | None = None
    """Logical CPUs for the worker of the cpu device; None: all that the server may use."""
    numa_node: int | None = None
    """NUMA node of `cpus`. Its memory is used first."""
    npu: NpuEnvironment = NpuEnvironment()
    tensor_parallel_size: int = 1
    """Workers that compute a stage of the model together, each a part of every layer."""
    pipeline_parallel_size: int = 1
    """Stages, each some of the layers. A stage is `tensor_parallel_size` workers."""
    pipeline_split: PipelineSplit = "memory"
    """How the layers are divided: by the memory that stages need, or in equal numbers."""
    num_machines: int = 1
    """Machines over which the ranks are spread equally."""
    group: Group | None = None
    """This worker's place among them; None: the executor has not set it, or it is alone."""
    debug: bool = False
    """Show tracebacks of errors in the worker."""
    vocab_limit: int | None = None
    """Ids from here on are never sampled: the output layer may have more rows than the tokenizer
    has ids."""
    never_sampled: tuple[int, ...] = ()
    """Further ids below `vocab_limit` that are not tokens of the tokenizer."""

    @property
    def batch_size(self) -> int:
        """`max_batch_size`; by default 64, or as many as a step has tokens."""
        limit = self.max_step_tokens or DEFAULT_BATCH_SIZE
        return self.max_batch_size or min(DEFAULT_BATCH_SIZE, limit)

    @property
    def prefix_slots(self) -> int:
        """Slots of the KV cache for the prefixes of adapters."""
        return self.max_adapters * self.max_prefix_length

    @property
    def num_ranks(self) -> int:
        """Workers that compute the model together."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


PARALLEL_SIZES = ("tensor_parallel_size", "pipeline_parallel_size")
"""Fields of RunnerConfig with numbers of workers."""


class GoldenComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `glmserve golden compare`. Sent to its process as JSON."""

    golden: str
    """Folder that `glmserve golden dump` has written."""
    runner: RunnerConfig
    """An empty checkpoint means the golden's."""
    tolerance: float | None
    """None: by the dtype."""
    picture: str | None
    """File to write."""
    every_tensor: bool


@dataclass(frozen=True)
class SchedulerConfig:
    """Options of the scheduler. The runner's limits hold as well."""

    max_batch_size: int | None = None
    """Maximum number of running requests; None: the runner's limit."""
    max_step_tokens: int | None = None
    """Token budget of a step, prefill and decode together; None: the runner's limit."""
    max_step_time: float | None = None
    """Seconds that a step with decodes should take at most; None: by the time of decodes alone; 0:
    no limit."""
    queue_size: int = 0
    """Maximum number of waiting requests of one tenant; 0: no limit."""
    queue_timeout: float = 0.0
    """Seconds that a request may wait before it begins; 0: no limit. The engine enforces it."""
    prefix_cache: bool = True
    speculative_tokens: int | None = 0
    """Maximum number of drafts of one request in a step; None: as many as make it faster, none
    where the runner takes no drafts or steps are launched ahead; 0: no speculation."""
    share_drafts: bool = False
    """Whether drafts may come from earlier answers to prompts that begin in the same way."""
    release_cache_after: float = 0.0
    """Seconds without a request after which the KV cache's memory is given back; 0: never."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """Relative share by tenant; 1 for a tenant that is missing."""


@dataclass(frozen=True)
class SupervisionConfig:
    """How a worker process is watched, and replaced when it dies."""

    step_timeout: float = 300.0
    """Seconds after which a worker in an unfinished step is killed; 0: never."""
    load_timeout: float = 900.0
    """Seconds without progress after which a loading worker is killed; 0: never."""
    max_restarts: int = 5
    """Maximum number of restarts within ten minutes."""


@dataclass(frozen=True)
class Tenant:
    """The holder of one or several API keys; the unit of fairness and limits."""

    name: str
    """Not secret: it appears in logs and metrics."""
    weight: float = 1.0
    """Share of the model in relation to other tenants."""
    priority: int | None = None
    """The most urgent priority that its requests may have (lower runs first); None: any."""
    max_requests: int = 0
    """Maximum number of unfinished requests, waiting ones included; 0: no limit."""
    tokens_per_minute: int = 0
    """Maximum number of tokens per minute, prompts and answers together; 0: no limit."""


DEFAULT_TENANT = Tenant("")
"""Tenant of requests when no API keys are configured."""


JOURNAL_PASSWORD = "GLMSERVE_JOURNAL_PASSWORD"
"""Variable with the password of a journal's Redis."""


@dataclass(frozen=True)
class RedisAddress:
    """A Redis. It is shown without user, password and further settings."""

    url: str = field(repr=False)
    """redis://, rediss:// or unix://"""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True)
class JournalConfig:
    """Options of the journal."""

    place: Path | RedisAddress
    """A folder, or the Redis that several servers share."""
    keep: float = 600.0
    """Seconds for which an answer can be fetched again."""
    max_bytes: int = 2**30
    """Maximum size of what is kept."""


@dataclass(frozen=True)
class BatchConfig:
    """Options of files and batches."""

    folder: Path
    max_file_size: int = 200 * 10**6
    """Bytes of one file; OpenAI's limit for batches."""
    max_storage: int = 10 * 10**9
    """Bytes of all files of one API key."""
    max_lines: int = 50_000
    """Requests of one batch; OpenAI's limit. 0: no limit."""
    max_batches: int = 100
    """Unfinished batches of one API key; 0: no limit."""
    keep: int = 30 * 24 * 3600
    """Seconds for which a file is kept if its owner does not say; 0: until it is deleted."""


class NamedAdapter(NamedTuple):
    """An adapter as the operator names it."""

    name: str
    folder: Path


@dataclass(frozen=True)
class AdapterConfig:
    """Options of adapters."""

    named: tuple[NamedAdapter, ...] = ()
    """They are loaded before the server is ready."""
    directory: Path | None = None
    """Folder of adapters: each of its subfolders that holds one is found by its name."""
    max_lora_rank: int = 64
    """Largest rank of a LoRA adapter."""
    max_prefix_length: int = 0
    """Most slots of a prefix adapter; 0: none can be loaded."""


@dataclass(frozen=True)
class ServerConfig:
    """Options of the HTTP layer."""

    served_model_name: str
    further_model_names: tuple[str, ...] = ()
    """Other names for the same model."""
    queue_full_status: int = 429
    """HTTP status of QueueFullError."""
    max_body_size: int = 8 * 2**20
    """Maximum bytes of a request's body."""
    api_keys: Mapping[str, Tenant] = field(default_factory=dict)
    """Tenant by API key. If it is empty, no request needs a key."""
    shared_prefixes: bool = False
    """Share the prefix cache between tenants. A tenant can then find out by timing which prompts
    others sent."""
    admin_key: str | None = None
    """The operator's key for /admin; None: /admin is disabled."""
    public_metrics: bool = False
    """/metrics needs no key."""
    public_docs: bool = False
    """/openapi.json needs no key."""
    page: bool = True
    """The page for people is served at `/`."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the server; `*` is any."""
    root_path: str = ""
    """Prefix of all paths behind a proxy, such as `/glm`. Requests may come with it or without."""
    cache_size: int = 0
    """Number of requests with cached answers; 0: no cache."""
    cache_list_size: int = 1
    """Number of answers cached for each request; one is chosen at random."""
    ignore_unknown_fields: bool = False
    """Leave out fields that are unknown, instead of refusing their requests."""
    response_store_size: int = 1000
    """Number of stored responses of /v1/responses, which later ones can continue; 0: none."""
    seed: int = 0
    """First seed of requests without a seed; each such request takes the next number."""
    access_log: Literal["text", "json"] | None = None
    """Form of the lines about answered requests; None: there are none."""
    otlp_traces_endpoint: str | None = None
    """URL that OpenTelemetry's spans are sent to; None: there are none."""
    adapters: AdapterConfig = AdapterConfig()
    metrics_compat: Literal["vllm"] | None = None
    """The server under whose names /metrics shows the metrics as well."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """All names of the model, the main one first."""
        return self.served_model_name, *self.further_model_names


@dataclass(frozen=True)
class ConnectionConfig:
    """Limits for client connections. Times are seconds; 0: no limit."""

    header_timeout: float = 10.0
    """For a request's head, from its first byte to its last, and for a TLS handshake."""
    body_timeout: float = 30.0
    """Without a further byte of an incomplete body."""
    idle_timeout: float = 75.0
    """Between two requests."""
    write_timeout: float = 60.0
    """During which the client reads none of the written bytes."""
    max_connections: int = 4096


class LoadProgress(NamedTuple):
    """How far a runner has loaded."""

    phase: LoadPhase = "weights"
    done: int = 0
    """Bytes of weights, tokens of a calibration, or number of recorded graphs."""
    total: int = 0
    """Bytes, tokens or graphs in all."""


ReportProgress = Callable[[LoadProgress], None]
"""Called with the progress while a runner loads."""


def report_nothing(progress: LoadProgress) -> None:
    """A ReportProgress that does nothing."""
