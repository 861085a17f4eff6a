"""The board in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from glmserve.config import ServerConfig
from support.axe import violations
from support.chat_page import ChatPage
from support.fake_server import tenants
from support.scripted import ScriptedRunner
from support.server_process import ServerProcess

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]
PAINTED = """canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 250) {
        colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
    }
    return colours.size;
}"""


def test_requests_are_lanes_and_rows(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    page = chat.page
    chat.expected.append("willReadFrequently")  # it is this test that reads
    page.get_by_role("button", name="Board").click()
    page.locator(".tiles").wait_for()
    body = {"model": "fake", "prompt": "a secret text", "max_tokens": 50}
    assert httpx.post(chat.url + "v1/completions", json=body).status_code == 200
    row = page.locator("tbody tr")
    row.get_by_text("stop").wait_for()
    assert row.locator("td").all_inner_texts()[3:6] == ["13", "0", "10"]
    assert "secret" not in page.content()
    for name in (re.compile("The last [0-9]+ seconds"), "Blocks of the KV cache"):
        picture = page.get_by_role("img", name=name)
        while picture.evaluate(PAINTED) < 2:  # the map of the blocks comes twice a second
            page.wait_for_timeout(50)
    assert violations(page) == []
    page.get_by_role("button", name="New conversation").click()
    page.locator(".tiles").wait_for(state="detached")


def test_with_keys_the_operator_is_asked(fake_page: Opener) -> None:
    look = {"color_scheme": "dark", "viewport": {"width": 360, "height": 700}}
    config = ServerConfig(served_model_name="fake", api_keys=tenants("user"), admin_key="boss")
    chat = fake_page(ScriptedRunner("an answer"), page=look, config=config)
    page = chat.page
    page.fill("dialog input", "user")
    page.get_by_role("button", name="Use this key").click()
    page.goto(chat.url + "board")
    page.get_by_label("Admin key").wait_for()
    assert violations(page) == []
    page.get_by_label("Admin key").fill("boss")
    page.get_by_role("button", name="Use this key").click()
    page.locator(".tiles").wait_for()
    page.wait_for_timeout(300)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.reload()
    page.locator(".tiles").wait_for()


def test_a_recording_is_opened_and_run(open_page: Opener, tmp_path: Path) -> None:
    file = tmp_path / "monday.rec"
    with ServerProcess("--dtype", "float32", "--record", str(file)) as server:
        for number in range(3):
            body = {"prompt": f"{number} the sea", "max_tokens": 40, "ignore_eos": True}
            assert httpx.post(server.url + "/v1/completions", json=body).status_code == 200
        chat = open_page(server.url + "/")
        page = chat.page
        chat.expected.append("willReadFrequently")
        page.goto(chat.url + "board")
        page.get_by_role("button", name="Open a recording").wait_for()
        page.locator('.board input[type="file"]').set_input_files(file)
        page.get_by_text("monday.rec").wait_for()
        assert page.locator("tbody tr").count() == 3
        rows = page.locator("tbody tr").all()
        assert {row.locator("td").all_inner_texts()[5] for row in rows} == {"40"}
        slider = page.get_by_label("Time in the recording")
        slider.fill("0")
        assert page.locator("tbody tr").count() <= 1
        assert violations(page) == []
        page.get_by_role("button", name="Run").click()
        chat.until("document.querySelectorAll('tbody tr').length === 3")
        page.get_by_role("button", name="Run").wait_for()
        messages: list[str] = []
        page.on("dialog", lambda dialog: (messages.append(dialog.message), dialog.dismiss()))
        page.get_by_role("button", name="Close").click()
        file.write_bytes(b"something else")
        page.locator('.board input[type="file"]').set_input_files(file)
        page.wait_for_timeout(300)
        assert messages == ["This file is no recording of glmserve."]
