# /// script
# requires-python = ">=3.11"
# dependencies = ["zhipuai==2.1.5.20250825", "sniffio"]  # it does not say that it needs sniffio
# ///
"""ZhipuAI's earlier SDK, which calls /api/paas/v4."""

from __future__ import annotations

from importlib.metadata import version

from client_tasks import MODEL, URL, Client
from zhipu_tasks import add_tasks
from zhipuai import ZhipuAI

client = Client("ZhipuAI SDK (zhipuai)", version("zhipuai"))
# Its tokens are made of keys with two parts.
add_tasks(client, ZhipuAI(base_url=f"{URL}/api/paas/v4", api_key="id.secret"), MODEL)
client.run()
