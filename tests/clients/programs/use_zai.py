# /// script
# requires-python = ">=3.11"
# dependencies = ["zai-sdk==0.2.3"]
# ///
"""ZhipuAI's SDK of today, which calls /api/paas/v4."""

from __future__ import annotations

from importlib.metadata import version

from client_tasks import MODEL, URL, Client
from zai import ZhipuAiClient
from zhipu_tasks import add_tasks

client = Client("ZhipuAI SDK (zai)", version("zai-sdk"))
add_tasks(client, ZhipuAiClient(base_url=f"{URL}/api/paas/v4", api_key="none"), MODEL)
client.run()
