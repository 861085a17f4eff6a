"""`glmserve serve`: its options, and the configs made of them."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.cli import tls
from glmserve.cli.api_keys import read_admin_key, read_api_keys
from glmserve.cli.cores import leave_to_worker
from glmserve.cli.group.group import read_group
from glmserve.cli.options import (
    adapter_config,
    add_access_options,
    add_adapter_options,
    add_batch_options,
    add_connection_options,
    add_debug_options,
    add_device_options,
    add_http_options,
    add_journal_options,
    add_machine_options,
    add_model_options,
    add_observation_options,
    add_scheduling_options,
    add_worker_options,
    batch_config,
    connection_config,
    journal_config,
    runner_config,
    scheduler_config,
    supervision_config,
)
from glmserve.config import RunnerConfig, SchedulerConfig, ServerConfig, Tenant
from glmserve.errors import OptionError
from glmserve.model_config import model_name
from glmserve.process.interrupts import exit_immediately_on

if TYPE_CHECKING:
    import ssl

    from glmserve.executor import Machines

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `serve` to the command line."""
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description="Serve a checkpoint behind an OpenAI-compatible API. The default is glm-tiny, "
        "a tiny model that comes with glmserve.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` to a parser."""
    add_model_options(parser, positional=True)
    add_adapter_options(parser)
    add_device_options(parser)
    add_scheduling_options(parser)
    add_worker_options(parser)
    add_http_options(parser)
    add_connection_options(parser)
    add_journal_options(parser)
    add_batch_options(parser)
    add_machine_options(parser)
    add_access_options(parser)
    add_observation_options(parser)
    add_debug_options(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal, or run ranks for the machine that serves; returns the exit code.

    Raises:
        StartupError: the server cannot start, or its worker died for good.
    """
    runner, server = runner_config(options), server_config(options)
    scheduler = scheduler_config(options, server.api_keys.values())
    group = read_group(options, runner, os.environ)
    with exit_immediately_on(signal.SIGINT):  # imported here: --help need not wait
        from glmserve.cli.group.start import machines_of, run_member
        from glmserve.cli.head_start import head_start
    if group is not None and not group.layout.is_leader:
        return run_member(group, runner)
    security = tls.server_context(options.ssl_certfile, options.ssl_keyfile, options.ssl_ca_certs)
    leave_to_worker(runner.cpus)
    machines = machines_of(options.executor, group, runner, options.machine_timeout)
    with head_start(runner, machines) as machines:
        return _serve(options, runner, scheduler, server, machines, security)


def _serve(
    options: argparse.Namespace,
    runner: RunnerConfig,
    scheduler: SchedulerConfig,
    server: ServerConfig,
    machines: Machines | None,
    security: ssl.SSLContext | None,
) -> int:
    with exit_immediately_on(signal.SIGINT):  # imported here: --help need not wait
        from glmserve.cli.adapter_checks import check_adapters
        from glmserve.cli.served_model import read_served_model

    check_adapters(server.adapters, server.model_names)
    served = read_served_model(options, runner)
    with exit_immediately_on(signal.SIGINT):  # nor need a report of a bad checkpoint
        from glmserve.cli.listening import Address
        from glmserve.cli.server import serve

    return serve(
        served,
        supervision_config(options),
        scheduler,
        server,
        connection_config(options),
        journal_config(options),
        batch_config(options),
        machines,
        address=Address(options.host, options.port, options.uds),
        drain_timeout=options.drain_timeout,
        record=options.record,
        tls=security,
    )


def server_config(options: argparse.Namespace) -> ServerConfig:
    """The config of the HTTP layer.

    Raises:
        OptionError: the API keys are invalid.
    """
    checkpoint: Path = options.checkpoint
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    name, *further_names = dict.fromkeys(options.served_model_name or [model_name(folder)])
    return ServerConfig(
        served_model_name=name,
        further_model_names=tuple(further_names),
        queue_full_status=options.queue_full_status,
        max_body_size=options.max_body_size,
        cache_size=options.cache_size,
        cache_list_size=options.cache_list_size,
        ignore_unknown_fields=options.ignore_unknown_fields,
        response_store_size=options.response_store_size,
        api_keys=_api_keys(options),
        shared_prefixes=options.share_prefixes,
        admin_key=read_admin_key(options.admin_key),
        public_metrics=options.public_metrics,
        public_docs=options.public_docs,
        page=options.page,
        root_path=options.root_path,
        cors_origins=tuple(options.cors_origin or ()),
        seed=options.seed,
        access_log=options.access_log,
        otlp_traces_endpoint=options.otlp_traces_endpoint,
        adapters=adapter_config(options),
        metrics_compat=options.metrics_compat,
    )


def _api_keys(options: argparse.Namespace) -> dict[str, Tenant]:
    defaults = Tenant(
        "",
        max_requests=options.key_max_requests,
        tokens_per_minute=options.key_tokens_per_minute,
    )
    keys = read_api_keys(options.api_key or (), options.api_key_file, defaults)
    if not keys and (defaults.max_requests or defaults.tokens_per_minute):
        raise OptionError(
            "--key-max-requests and --key-tokens-per-minute limit API keys, and there are none; "
            "give --api-key or --api-key-file"
        )
    return keys
