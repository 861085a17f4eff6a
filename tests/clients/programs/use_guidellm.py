# /// script
# requires-python = ">=3.11"
# dependencies = ["guidellm==0.8.1", "jinja2", "torch==2.13.0"]  # it does not name jinja2
# ///
"""GuideLLM: one short run by each API."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from client_tasks import MODEL, QUESTION, URL, Client

REQUESTS = 6
OUTPUT_TOKENS = 12


def run(path: str) -> None:
    """All requests succeed, and the server's own counts of tokens are those that were asked."""
    with tempfile.TemporaryDirectory() as folder:
        row = {"prompt": QUESTION, "output_tokens_count": OUTPUT_TOKENS}
        Path(folder, "data.jsonl").write_text(f"{json.dumps(row)}\n" * REQUESTS)
        backend = f"kind=openai_http,target={URL},model={MODEL},request_format={path}"
        command = [str(Path(sys.executable).with_name("guidellm")), "run", "--backend", backend]
        command += ["--profile", "kind=concurrent,streams=2"]
        command += ["--constraint", f"kind=max_requests,count={REQUESTS}"]
        command += ["--data", "kind=json_file,path=data.jsonl"]
        command += ["--output", "kind=json,path=report.json", "--disable-console"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(Path(folder, "report.json").read_text())
    (benchmark,) = report["benchmarks"]
    assert benchmark["metrics"]["request_totals"]["successful"] == REQUESTS
    for request in benchmark["requests"]["successful"]:
        assert request["output_tokens"] == OUTPUT_TOKENS
        assert request["prompt_tokens"] > 0
        assert request["output"]


client = Client("GuideLLM", version("guidellm"))
for api, path in {
    "chat completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
}.items():
    client.add(api, "load", run, path)
client.run()
