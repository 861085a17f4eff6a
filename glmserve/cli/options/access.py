"""Options for access: API keys, limits of keys, TLS."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import tls, values
from glmserve.cli.api_keys import ADMIN_KEY_VARIABLE, KEY_VARIABLE


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Add the group "access" to a command."""
    group = parser.add_argument_group("access")
    group.add_argument(
        "--api-key",
        type=values.api_key,
        action="append",
        metavar="KEY",
        help="key that clients must send; may be given several times, for several keys. The "
        f"environment variable {KEY_VARIABLE} is safer, because a command line is visible to other "
        "users",
    )
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="file with one API key per line; # begins a comment. name=, weight=, priority=, "
        "max-requests= and tokens-per-minute= may follow a key",
    )
    group.add_argument(
        "--key-max-requests",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="requests of one key that may wait or run at once, if the key's line sets no "
        "max-requests; 0: no limit",
    )
    group.add_argument(
        "--key-tokens-per-minute",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="prompt and answer tokens of one key per minute, if the key's line sets no "
        "tokens-per-minute; 0: no limit",
    )
    group.add_argument(
        "--share-prefixes",
        action="store_true",
        help="use one prefix cache for all keys. Saves work if keys send prompts with the same "
        "beginning, but the time to the first token then reveals what other keys have sent",
    )
    group.add_argument(
        "--admin-key",
        type=values.api_key,
        metavar="KEY",
        help="key for /admin; the environment variable "
        f"{ADMIN_KEY_VARIABLE} is safer; without an admin key, /admin is disabled",
    )
    group.add_argument("--public-metrics", action="store_true", help="/metrics needs no API key")
    group.add_argument(
        "--public-docs",
        action="store_true",
        help="/openapi.json needs no API key, so that /docs shows it",
    )
    group.add_argument(
        "--ssl-certfile", type=Path, metavar="FILE", help="certificate, PEM; serves https"
    )
    group.add_argument(
        "--ssl-keyfile",
        type=Path,
        metavar="FILE",
        help="private key, PEM; default: the key is in --ssl-certfile. The password of an "
        f"encrypted key is read from the environment variable {tls.PASSWORD_VARIABLE}",
    )
    group.add_argument(
        "--ssl-ca-certs",
        type=Path,
        metavar="FILE",
        help="certificate authorities, PEM; clients must then present a certificate that one of "
        "them has signed",
    )
