# /// script
# requires-python = ">=3.11"
# dependencies = ["aiperf==0.13.0"]
# ///
"""NVIDIA's AIPerf: one short run by each API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from client_tasks import MODEL, URL, Client
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

REQUESTS = 6
OUTPUT_TOKENS = 12


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of bytes: AIPerf makes prompts with it, and would fetch one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def run(kind: str, *options: str) -> None:
    """All requests succeed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tokenizer(folder / "tokenizer")
        program = Path(sys.executable).with_name("aiperf")
        command = [str(program), "profile", "--model", MODEL, "--url", URL, "--ui", "none"]
        command += ["--endpoint-type", kind, "--tokenizer", str(folder / "tokenizer"), *options]
        command += ["--concurrency", "2", "--request-count", str(REQUESTS), "--isl", "40"]
        command += ["--osl", str(OUTPUT_TOKENS), "--artifact-dir", str(folder / "report")]
        online = os.environ | {"HF_HUB_OFFLINE": ""}  # offline it reads no tokenizer in a folder
        done = subprocess.run(
            command, cwd=folder, env=online, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads((folder / "report" / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == REQUESTS
    assert "error_request_count" not in report, report["error_request_count"]


client = Client("AIPerf", version("aiperf"))
client.add("chat completions", "load", run, "chat", "--streaming")
client.add("completions", "load", run, "completions", "--streaming")
client.add("responses", "load", run, "responses", "--streaming")
client.add("messages", "load", run, "messages", "--streaming")
client.add("embeddings", "load", run, "embeddings")
client.run()
