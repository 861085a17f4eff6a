"""Who may ask, and how connections are secured."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import tls, values
from glmserve.cli.api_keys import ADMIN_KEY_VARIABLE, KEY_VARIABLE


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("access")
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
        help="one key a line, # begins a comment; any of the keys will do. Behind a key may stand "
        "name=, weight=, priority=, max-requests= and tokens-per-minute=",
    )
    group.add_argument(
        "--key-max-requests",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="requests that a key may have under way at once, unless its line says otherwise; 0: "
        "any number",
    )
    group.add_argument(
        "--key-tokens-per-minute",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="tokens of prompts and answers for a key, unless its line says otherwise; 0: any "
        "number",
    )
    group.add_argument(
        "--share-prefixes",
        action="store_true",
        help="keys find each other's prompts in the prefix cache; saves work where their prompts "
        "begin alike, and lets them learn from the time to the first token what others have asked",
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
