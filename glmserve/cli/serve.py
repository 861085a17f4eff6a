"""`glmserve serve`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from glmserve.cli import tls, values
from glmserve.cli.api_keys import ADMIN_KEY_VARIABLE, KEY_VARIABLE, read_admin_key, read_api_keys
from glmserve.cli.cores import leave_to_worker, place_worker
from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    AttentionName,
    CpuKernels,
    KvCacheDType,
    Quantization,
    RunnerConfig,
    SchedulerConfig,
    ServerConfig,
    SupervisionConfig,
)
from glmserve.errors import OptionError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names a default where there is one to name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_command(commands: Commands) -> None:
    """Add `serve` to the command line."""
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description="Serve a checkpoint behind an OpenAI-compatible API. Without --checkpoint: "
        "glm-tiny, a tiny model that comes with glmserve.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_model_options(parser.add_argument_group("model"))
    _add_device_options(parser.add_argument_group("device and memory"))
    _add_scheduling_options(parser.add_argument_group("scheduling"))
    _add_worker_options(parser.add_argument_group("worker"))
    _add_http_options(parser.add_argument_group("http"))
    _add_access_options(parser.add_argument_group("access"))


def run(options: argparse.Namespace) -> int:
    """Serve until a signal, or until no worker lives; the process's exit code."""
    if options.kv_cache_memory and options.kv_cache_tokens:
        raise OptionError("--kv-cache-memory and --kv-cache-tokens say the same; give one of them")
    if options.max_step_tokens and options.max_step_tokens < options.max_batch_size:
        raise OptionError(
            f"--max-step-tokens {options.max_step_tokens} leaves some of --max-batch-size "
            f"{options.max_batch_size} requests without their token; raise it"
        )
    runner = runner_config(options)
    leave_to_worker(runner.cpus)
    from glmserve.cli.server import serve  # everything heavy: --help must not wait for it

    return serve(
        runner,
        supervision_config(options),
        scheduler_config(options),
        server_config(options),
        skip_tokenizer=options.skip_tokenizer_init,
        chat_format=options.chat_format,
        host=options.host,
        port=options.port,
        drain_timeout=options.drain_timeout,
        tls=tls.server_context(options.ssl_certfile, options.ssl_keyfile, options.ssl_ca_certs),
    )


def runner_config(options: argparse.Namespace) -> RunnerConfig:
    """What the worker is told.

    Raises:
        OptionError: the CPUs it is to run on cannot be had.
    """
    placement = place_worker(options.cpus, options.numa_node)
    return RunnerConfig(
        checkpoint=str(options.checkpoint),
        ptuning_checkpoint=options.ptuning_checkpoint and str(options.ptuning_checkpoint),
        device=options.device,
        load_format=options.load_format,
        dtype=options.dtype,
        quantization=options.quantization,
        rope_scaling=options.rope_scaling,
        seed=options.seed,
        max_model_len=options.max_model_len,
        max_batch_size=options.max_batch_size,
        max_step_tokens=options.max_step_tokens,
        drafts=options.speculative_tokens > 0,
        block_size=options.block_size,
        kv_cache_dtype=options.kv_cache_dtype,
        attention_backend=options.attention_backend,
        cpu_kernels=options.cpu_kernels,
        deterministic=options.deterministic,
        kv_cache_memory=options.kv_cache_memory,
        kv_cache_tokens=options.kv_cache_tokens,
        threads=options.threads,
        cpus=placement.cpus,
        numa_node=placement.numa_node,
    )


def supervision_config(options: argparse.Namespace) -> SupervisionConfig:
    """How the worker is looked after."""
    return SupervisionConfig(
        step_timeout=options.step_timeout, max_restarts=options.max_worker_restarts
    )


def scheduler_config(options: argparse.Namespace) -> SchedulerConfig:
    """What the scheduler is told."""
    return SchedulerConfig(
        max_batch_size=options.max_batch_size,
        max_step_tokens=options.max_step_tokens,
        queue_size=options.queue_size,
        prefix_cache=options.prefix_cache,
        speculative_tokens=options.speculative_tokens,
    )


def server_config(options: argparse.Namespace) -> ServerConfig:
    """What the HTTP layer is told."""
    checkpoint: Path = options.checkpoint
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    name, *further_names = dict.fromkeys(options.served_model_name or [folder.resolve().name])
    return ServerConfig(
        served_model_name=name,
        further_model_names=tuple(further_names),
        queue_full_status=options.queue_full_status,
        max_body_size=options.max_body_size,
        cache_size=options.cache_size,
        cache_list_size=options.cache_list_size,
        response_store_size=options.response_store_size,
        api_keys=read_api_keys(options.api_key, options.api_key_file),
        admin_key=read_admin_key(options.admin_key),
        public_metrics=options.public_metrics,
        public_docs=options.public_docs,
        cors_origins=tuple(options.cors_origin or ()),
        seed=options.seed,
    )


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checkpoint",
        type=Path,
        default=EMBEDDED_CHECKPOINT,
        metavar="PATH",
        help="folder with config.json and weights, or one weights file with config.json beside it",
    )
    group.add_argument(
        "--ptuning-checkpoint",
        type=Path,
        metavar="PATH",
        help="folder of a P-Tuning v2 prefix that was trained for the checkpoint",
    )
    group.add_argument(
        "--served-model-name",
        type=values.non_empty,
        nargs="+",
        action="extend",
        metavar="NAME",
        help="what clients call it, the model's own name first; default: the folder's name",
    )
    group.add_argument(
        "--load-format",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: seeded random weights from config.json alone",
    )
    group.add_argument(
        "--skip-tokenizer-init",
        action="store_true",
        help="serve token ids on /v1/completions only; needs no tokenizer files",
    )
    group.add_argument(
        "--chat-format",
        metavar="NAME",
        help="chatglm, chatglm2, chatglm3, glm4 or codegeex2; default: what the checkpoint tells",
    )
    group.add_argument(
        "--rope-scaling",
        choices=("positions", "base"),
        help="what the config's rope_ratio means; default: what the checkpoint tells",
    )
    group.add_argument(
        "--max-model-len",
        type=values.positive,
        metavar="TOKENS",
        help="longest prompt and answer together; default: the model's, if the cache holds it",
    )
    group.add_argument(
        "--seed",
        type=values.seed,
        default=0,
        help="seeds dummy weights, and requests without a seed in order of arrival",
    )


def _add_device_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", default="auto", help="cpu, cuda, ...; auto: the first there is")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="of weights and KV cache",
    )
    group.add_argument(
        "--quantization",
        choices=get_args(Quantization),
        help="round the weights of matrix products while loading: to 8 bits (int8), to 4 (int4), "
        "or these and activations to 8 (w8a8, w4a8)",
    )
    group.add_argument("--threads", type=values.positive, metavar="N", help="CPU threads")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--cpus",
        type=values.cpu_list,
        metavar="LIST",
        help="logical CPUs for the cpu device, like 0-15,32; the server process keeps to the "
        "others if there are any",
    )
    where.add_argument(
        "--numa-node",
        type=values.non_negative,
        metavar="N",
        help="the CPUs of this node, and its memory while there is any",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="a request's numbers are the same bits whatever shares its batch; slower, but not on "
        "a CPU with native kernels",
    )
    group.add_argument(
        "--attention-backend",
        choices=get_args(AttentionName),
        default="auto",
        help="who computes attention; auto: native on a CPU, triton on a GPU, else sdpa (torch's "
        "own)",
    )
    group.add_argument(
        "--cpu-kernels",
        choices=get_args(CpuKernels),
        default="auto",
        help="native: glmserve's own, compiled when it was installed; auto: these if there are any",
    )
    group.add_argument(
        "--kv-cache-dtype",
        choices=get_args(KvCacheDType),
        default="auto",
        help="int8 and fp8 keep twice the tokens of 16-bit numbers; auto: as --dtype",
    )
    group.add_argument(
        "--block-size",
        type=values.positive,
        metavar="TOKENS",
        help="token slots per KV block; default: the device's choice",
    )
    group.add_argument(
        "--kv-cache-memory", type=values.num_bytes, metavar="BYTES", help="for example 4G"
    )
    group.add_argument("--kv-cache-tokens", type=values.positive, metavar="N")
    group.add_argument(
        "--prefix-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="reuse the K/V of earlier prompts that begin alike",
    )


def _add_scheduling_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-batch-size",
        type=values.positive,
        default=64,
        metavar="N",
        help="requests that run at the same time",
    )
    group.add_argument(
        "--max-step-tokens",
        type=values.positive,
        metavar="N",
        help="new tokens in one step; longer prompts are computed in chunks; default: 512 on a "
        "CPU, 2048 on a GPU; for ChatGLM-6B, which has no chunks, what its longest prompt needs",
    )
    group.add_argument(
        "--queue-size",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="requests that may wait; 0: no bound",
    )
    group.add_argument(
        "--queue-full-status",
        type=values.http_error_status,
        default=429,
        metavar="STATUS",
        help="what a request gets when the queue is full",
    )
    group.add_argument(
        "--speculative-tokens",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="guess up to N tokens of a request ahead in each step, from where its text stood "
        "before, and keep those that the model would have chosen (prompt lookup); 0: never",
    )


def _add_worker_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--step-timeout",
        type=values.seconds,
        default=300.0,
        metavar="SECONDS",
        help="a worker whose step takes longer is killed, and replaced; 0: never",
    )
    group.add_argument(
        "--max-worker-restarts",
        type=values.non_negative,
        default=5,
        metavar="N",
        help="replace a worker that has died, at most N times within ten minutes; requests go on "
        "where they were",
    )


def _add_http_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", type=values.non_empty, default="127.0.0.1")
    group.add_argument("--port", type=values.port, default=8000)
    group.add_argument(
        "--drain-timeout",
        type=values.seconds,
        default=30.0,
        metavar="SECONDS",
        help="after SIGTERM or SIGINT, requests under way get as long to come to their end; a "
        "second signal ends them at once",
    )
    group.add_argument(
        "--max-body-size",
        type=values.num_bytes,
        default="8M",
        metavar="BYTES",
        help="of a request; larger ones get 413",
    )
    group.add_argument(
        "--cache-size",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="answer the last N different chat and text completions from a cache when they come "
        "again; 0: never",
    )
    group.add_argument(
        "--cache-list-size",
        type=values.positive,
        default=1,
        metavar="N",
        help="answers to collect for a request before it is answered with one of them at random",
    )
    group.add_argument(
        "--response-store-size",
        type=values.non_negative,
        default=1000,
        metavar="N",
        help="responses of /v1/responses to keep in memory for later ones to go on from; 0: none",
    )
    group.add_argument(
        "--cors-origin",
        type=values.origin,
        action="append",
        metavar="ORIGIN",
        help="web pages from there may call the server, like https://example.org, or * for any; "
        "repeatable",
    )


def _add_access_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--api-key",
        type=values.api_key,
        metavar="KEY",
        help=f"clients must send it; better kept in the environment as {KEY_VARIABLE}",
    )
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="one key a line, # begins a comment; any of the keys will do",
    )
    group.add_argument(
        "--admin-key",
        type=values.api_key,
        metavar="KEY",
        help="the operator's, for /admin; better kept in the environment as "
        f"{ADMIN_KEY_VARIABLE}; without one, /admin is refused",
    )
    group.add_argument("--public-metrics", action="store_true", help="/metrics needs no key")
    group.add_argument(
        "--public-docs", action="store_true", help="/docs and /openapi.json need no key"
    )
    group.add_argument(
        "--ssl-certfile", type=Path, metavar="FILE", help="PEM; the server then speaks https"
    )
    group.add_argument(
        "--ssl-keyfile",
        type=Path,
        metavar="FILE",
        help="PEM; default: the key is in --ssl-certfile. The password of an encrypted key is "
        f"taken from the environment's {tls.PASSWORD_VARIABLE}",
    )
    group.add_argument(
        "--ssl-ca-certs",
        type=Path,
        metavar="FILE",
        help="PEM; clients must show a certificate that one of these has signed",
    )
