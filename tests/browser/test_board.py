"""The board in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from glmserve.config import ServerConfig
from glmserve.contract.wire import HEADER_SIZE, body_size
from glmserve.trace.events import CHECKSUM_SIZE, MAGIC
from support.axe import violations
from support.chat_page import ChatPage
from support.fake_server import tenants
from support.scripted import ScriptedRunner
from support.server_process import ServerProcess, without_worker

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]
LOOKS: list[dict[str, Any]] = [
    {"locale": "en-US", "color_scheme": "light"},
    {"locale": "zh-CN", "color_scheme": "dark"},
    {"locale": "zh-CN", "color_scheme": "light", "viewport": {"width": 360, "height": 740}},
]
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


SEA = "The sea was calm and the small boat was far away from the land. " * 4


def ask(url: str, prompt: str, **fields: Any) -> None:
    body = {"prompt": prompt, "max_tokens": 40, "ignore_eos": True, "temperature": 0, **fields}
    assert httpx.post(f"{url}/v1/completions", json=body, timeout=60).status_code == 200


def open_board(chat: ChatPage) -> Any:
    chat.expected.append("willReadFrequently")  # it is the tests that read
    chat.page.goto(chat.url + "board")
    chat.page.locator(".tiles").wait_for()
    return chat.page


def phases(page: Any) -> list[str]:
    return list(page.locator(".waterfall li .phase").all_inner_texts())


def facts(page: Any) -> str:
    return str(page.locator(".card").last.inner_text())


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone"])
def test_the_phases_of_a_request_by_keyboard_and_by_its_lane(
    open_page: Opener, glm_tiny: ServerProcess, look: dict[str, Any]
) -> None:
    page = open_board(open_page(glm_tiny.url + "/", **look))
    ask(glm_tiny.url, SEA)
    ask(glm_tiny.url, "Another text")
    page.locator("tbody tr").nth(1).wait_for()
    newest, older = page.locator("tbody button").all()[:2]
    assert (newest.get_attribute("tabindex"), older.get_attribute("tabindex")) == ("0", "-1")
    newest.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".waterfall").wait_for()
    assert older.get_attribute("aria-pressed") == "true"
    number = older.inner_text().removeprefix("#")
    assert number in page.locator(".waterfall h3").inner_text()
    assert len(phases(page)) == 4  # queue, prefill, decode, end
    bars = page.locator(".bar-part").all()
    places = [bar.bounding_box() for bar in bars]
    for place, following in pairwise(places[:-1]):
        assert abs(place["x"] + place["width"] - following["x"]) < 3
    assert violations(page) == []
    if "viewport" in look:
        assert page.evaluate("document.documentElement.scrollWidth") == look["viewport"]["width"]
    page.locator(".waterfall .icon-button").click()
    assert page.locator(".waterfall").count() == 0
    page.locator("canvas.lanes").click(position={"x": 10, "y": 24})  # the second lane
    page.locator(".waterfall").wait_for()
    assert number in page.locator(".waterfall h3").inner_text()


def test_steps_have_a_floor_once_enough_of_them_were_seen(
    open_page: Opener, glm_tiny: ServerProcess
) -> None:
    page = open_board(open_page(glm_tiny.url + "/"))
    page.get_by_text("The floor is not known.").wait_for()
    ask(glm_tiny.url, SEA)
    line = page.get_by_text(re.compile("times the floor of"))
    line.wait_for()
    times = re.search("([0-9.]+) times", line.inner_text())
    assert times
    assert float(times[1]) > 0.8
    page.get_by_role("img", name=re.compile("times the floor")).wait_for()


def test_blocks_by_shared_prefix_with_hits_and_evictions(open_page: Opener) -> None:
    with ServerProcess("--dtype", "float32", "--kv-cache-tokens", "4096") as server:
        page = open_board(open_page(server.url + "/"))
        page.get_by_label("Coloured by").select_option("prefix")
        page.get_by_text("Requests with the same beginning have one colour.").wait_for()
        assert "0 shared" in facts(page)
        ask(server.url, SEA)  # the next four find its blocks, whichever of them begins first
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(ask, server.url, SEA, n=4, max_tokens=800)
            page.get_by_text(re.compile("[1-9] shared")).wait_for()
            assert violations(page) == []
            asked.result()
        ask(server.url, SEA)
        page.get_by_text(re.compile("[1-9][0-9]* of [0-9]+ prompt tokens found")).wait_for()
        picture = page.get_by_role("img", name="Blocks of the KV cache")
        page.wait_for_timeout(1500)  # marks have faded
        calm = picture.evaluate(PAINTED)
        for number in range(5):
            ask(server.url, f"{number} {SEA}", max_tokens=800)
        page.get_by_text(re.compile("[1-9][0-9]* blocks evicted")).wait_for()
        assert picture.evaluate(PAINTED) > calm


def test_a_lost_worker_is_a_phase(open_page: Opener) -> None:
    with ServerProcess("--dtype", "float32") as server:
        page = open_board(open_page(server.url + "/"))
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(ask, server.url, SEA, max_tokens=900)
            page.locator("tbody button").click()
            page.locator(".waterfall .phase", has_text="decode").wait_for()
            with without_worker(server.pid):
                page.get_by_text("The worker restarts").wait_for()
                page.locator(".waterfall .phase", has_text="waits for a worker").wait_for()
            page.get_by_text("The worker restarts").wait_for(state="detached")
            asked.result()
        page.locator(".waterfall").get_by_text("length").wait_for()
        assert [name for name in phases(page) if name != "not in a step"] == [
            *("queue", "prefill", "decode"),
            *("waits for a worker", "computed again", "decode", "end"),
        ]
        page.get_by_text("1 lost workers").wait_for()


def test_a_recording_is_opened_and_run(open_page: Opener, tmp_path: Path) -> None:
    file = tmp_path / "monday.rec"
    with ServerProcess("--dtype", "float32", "--record", str(file)) as server:
        for number in range(3):
            body = {"prompt": f"{number} the sea", "max_tokens": 400, "ignore_eos": True}
            assert httpx.post(server.url + "/v1/completions", json=body).status_code == 200
        chat = open_page(server.url + "/")
        page = chat.page
        chat.expected.append("willReadFrequently")
        page.goto(chat.url + "board")
        page.get_by_role("button", name="Open a recording").wait_for()
        page.locator('.board input[type="file"]').set_input_files(file)
        page.get_by_text("monday.rec").wait_for()
        chat.until("document.querySelectorAll('tbody tr').length === 3")
        rows = page.locator("tbody tr").all()
        assert {row.locator("td").all_inner_texts()[5] for row in rows} == {"400"}
        slider = page.get_by_label("Time in the recording")
        slider.fill("0")  # a tenth of a second: one request has begun, at most
        chat.until("document.querySelectorAll('tbody tr').length <= 1")
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
        assert messages == ["This file is no recording of glmserve, or it is damaged."]


def without_times(recording: bytes) -> bytes:
    """What an older glmserve would have recorded: no checksums either."""
    place = len(MAGIC)
    kept = [MAGIC.replace(b"4", b"2")]
    while place < len(recording):
        size = body_size(recording[place : place + HEADER_SIZE])
        header, start = recording[place : place + HEADER_SIZE], place + HEADER_SIZE + CHECKSUM_SIZE
        body = recording[start : start + size]
        place = start + size + CHECKSUM_SIZE
        if msgspec.msgpack.decode(body)[0] not in ("time", "evictions"):
            kept.append(header + body)
    return b"".join(kept)


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
def test_a_recording_has_what_the_live_board_has(
    fake_page: Opener, recording: Path, tmp_path: Path, is_old: bool
) -> None:
    if is_old:
        file = tmp_path / "old.rec"
        file.write_bytes(without_times(recording.read_bytes()))
        recording = file
    page = open_board(fake_page(ScriptedRunner("x")))
    page.locator('.board input[type="file"]').set_input_files(recording)
    page.get_by_text(recording.name).wait_for()
    assert page.locator("tbody tr").count() == 7
    rows = [row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()]
    assert {row[5] for row in rows} == {"40"}
    assert int(rows[-2][4]) > 0  # the second request found the prompt of the first
    page.locator("tbody button").last.click()
    assert phases(page)[-3:] == ["prefill", "decode", "end"]
    assert "40 tokens" not in page.locator(".waterfall").inner_text()  # the first is of the prompt
    assert "39 tokens" in page.locator(".waterfall").inner_text()
    assert re.search("[1-9][0-9]* of [0-9]+ prompt tokens found", facts(page))
    steps = page.locator(".card", has_text="Time of a step").inner_text()
    if is_old:
        assert "The floor is not known." in steps
        assert "0 blocks evicted" in facts(page)
    else:
        assert "times the floor" in steps
        assert re.search("[1-9][0-9]* blocks evicted", facts(page))
    assert violations(page) == []


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One prompt twice, then others that need its blocks."""
    file = tmp_path_factory.mktemp("recorded") / "tight.rec"
    options = ("--dtype", "float32", "--kv-cache-tokens", "512", "--record", str(file))
    with ServerProcess(*options) as server:
        for prompt in (SEA, SEA, *(f"{number} {SEA}" for number in range(5))):
            ask(server.url, prompt)
    return file
