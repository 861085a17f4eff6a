"""`glmserve pull`: fetches a model, and serves nothing."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from glmserve.cli import values
from glmserve.cli.hub_names import download_bar
from glmserve.hub import resolve
from glmserve.hub.fetch import fetch
from glmserve.hub.places import hub_places

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `pull` to the command line."""
    parser = commands.add_parser(
        "pull",
        help="fetch a model from Hugging Face or ModelScope",
        description="Fetch the weights, config and tokenizer of a model into the cache that "
        "Hugging Face's tools, or ModelScope's, use as well, and print the folder. Code is never "
        "fetched. A fetch that was interrupted goes on where it ended. Fetching from Hugging Face "
        "needs the extra hub. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME, HF_HUB_CACHE, "
        "MODELSCOPE_CACHE and the variables of proxies are honoured.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "names",
        type=values.hub_name,
        nargs="+",
        metavar="NAME",
        help="OWNER/MODEL, with @ and a branch, tag or commit if need be; ms:// before it: from "
        "ModelScope",
    )


def run(options: argparse.Namespace) -> int:
    """Fetch the models, and print their folders.

    Raises:
        CheckpointError: a model cannot be fetched.
    """
    places = hub_places(os.environ)
    for name in options.names:
        with download_bar(name) as report:
            if places.is_offline:
                folder = resolve(name, places, may_fetch=False)
            else:
                folder = fetch(name, places, report)
        print(folder)
    return 0
