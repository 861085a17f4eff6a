"""Measures the page in Chromium, and takes the pictures of the guide.

It serves a fake model that writes 200 tokens a second. Needs the `browser` extra and Debian's
package chromium.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from glmserve.api.page.files import GUIDE, WEB  # noqa: E402
from glmserve.contract.step import RunnerLimits  # noqa: E402
from support.chat_page import ChatPage  # noqa: E402
from support.scripted import ScriptedRunner  # noqa: E402
from support.server_process import ServerProcess  # noqa: E402
from support.threaded_server import threaded_server  # noqa: E402

RATE = 200  # tokens per second
ROOMY = RunnerLimits(
    num_blocks=4096, block_size=4, max_sequences=4, max_step_tokens=512, max_context=8192
)
LATER = {"katex", "highlight", "swagger", "docs", "docs.html", "docs.css"}
TEXT = (
    "The sea was calm. **A small boat** went out with `two` men in it.\n\n"
    "* the first one sang\n* the other one slept\n\n"
) * 20
PICTURE = """A server answers many requests in one step. Each step has a **token budget**:

1. decodes first, one token for each running request,
2. then as much of the waiting prompts as fits.

```python
def plan(budget: int, running: list[Request]) -> Step:
    step = Step(decodes=running)
    return step.fill(budget - len(running))
```

The time of a step is nearly $t = a + b\\,n$ for $n$ tokens.
"""
QUESTION = "How does continuous batching work?"


class PacedRunner(ScriptedRunner):
    """Waits in each step, so that tokens come at the rate."""

    _due = 0.0

    def execute(self, *arguments: Any) -> Any:
        now = time.perf_counter()
        self._due = max(self._due + 1 / RATE, now - 1 / RATE)
        time.sleep(max(0.0, self._due - now))
        return super().execute(*arguments)


FRAMES = """() => {
    window.frames_ = [];
    const next = (now) => { frames_.push(now); if (!window.isOver) requestAnimationFrame(next); };
    requestAnimationFrame(next);
}"""
GAPS = """() => {
    window.isOver = true;
    const gaps = frames_.slice(1).map((now, i) => now - frames_[i]).sort((a, b) => a - b);
    return [gaps.length, gaps[gaps.length >> 1], gaps[Math.floor(gaps.length * 0.99)], gaps.at(-1)];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--chromium", default=shutil.which("chromium"), help="the browser's program"
    )
    parser.add_argument("--pictures", action="store_true", help="write the guide's pictures")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        if options.pictures:
            take_pictures(browser)
            take_picture_of_board(browser)
        else:
            measure(browser)
        browser.close()


def measure(browser: Any) -> None:
    sizes()
    with ServerProcess("--device", "null") as server:
        first_paint(browser, server.url + "/")
    with threaded_server(runner=PacedRunner(TEXT, limits=ROOMY)) as url:
        streaming(browser, url)
        long_history(browser, url)


def sizes() -> None:
    files = [p for p in WEB.rglob("*") if p.suffix in (".js", ".css", ".html", ".svg")]
    packed = {p.relative_to(WEB).as_posix(): len(gzip.compress(p.read_bytes(), 9)) for p in files}
    for name, names in (
        ("needed at first", [n for n in packed if not LATER & set(n.split("/"))]),
        ("the viewer of /docs", [n for n in packed if n.startswith("vendor/swagger")]),
        ("highlighting", [n for n in packed if n.startswith("vendor/highlight")]),
        ("formulas, without fonts", [n for n in packed if "katex" in n]),
    ):
        print(f"{name}: {sum(packed[n] for n in names) / 1000:.1f} kB in gzip")


def first_paint(browser: Any, url: str) -> None:
    times = []
    for _ in range(5):
        page = ChatPage(browser.new_context(), url)
        paints = page.page.evaluate(
            "performance.getEntriesByType('paint').map(e => [e.name, e.startTime])"
        )
        ready = page.page.evaluate("performance.getEntriesByName('usable')[0].startTime")
        times.append((dict(paints)["first-contentful-paint"], ready))
        page.close()
    paints, readies = (sorted(column) for column in zip(*times, strict=True))
    print(f"first contentful paint: {paints[2]:.0f} ms, usable: {readies[2]:.0f} ms (median of 5)")


def streaming(browser: Any, url: str) -> None:
    page = ChatPage(browser.new_context(), url)
    page.page.evaluate(FRAMES)
    page.ask("x")
    count, median, most, worst = page.page.evaluate(GAPS)
    facts = page.page.locator(".message.assistant .facts").inner_text()
    print(f"streaming, {facts}")
    print(
        f"  {count} frames; between two frames: median {median:.1f} ms, p99 {most:.1f} ms, "
        f"longest {worst:.1f} ms"
    )
    page.close()


def long_history(browser: Any, url: str, turns: int = 2000) -> None:
    page = ChatPage(browser.new_context(), url)
    page.keep("long", [TEXT] * turns)
    begin = time.perf_counter()
    page.page.reload()
    page.page.locator(".message.assistant .prose > *").last.wait_for()
    shown = time.perf_counter() - begin
    begin = time.perf_counter()
    page.page.fill("#search", "boat")
    page.page.locator(".history .title").wait_for()
    print(f"{turns} turns: shown after {shown * 1000:.0f} ms")
    page.close()


def take_pictures(browser: Any) -> None:
    """A light one and a dark one, small enough to travel with the package."""
    with threaded_server(runner=PacedRunner(PICTURE, limits=ROOMY)) as url:
        for name, looks in (
            ("page", {"locale": "en-US", "color_scheme": "light"}),
            ("page-zh", {"locale": "zh-CN", "color_scheme": "dark"}),
        ):
            chat = ChatPage(
                browser.new_context(viewport={"width": 1080, "height": 720}, **looks), url
            )
            chat.ask(QUESTION if name == "page" else "连续批处理是怎么工作的？")
            chat.page.locator(".katex").first.wait_for()
            chat.page.locator(".hl-keyword").first.wait_for()
            chat.page.mouse.move(5, 700)
            chat.page.wait_for_timeout(600)
            chat.page.screenshot(path=GUIDE / f"{name}.png")
            chat.close()


def take_picture_of_board(browser: Any) -> None:
    """While requests come faster than a small cache holds them, with the phases of one of them."""
    with ServerProcess("--dtype", "float32", "--kv-cache-tokens", "1024") as server:
        context = browser.new_context(viewport={"width": 1080, "height": 860}, locale="en-US")
        chat = ChatPage(context, server.url + "/")
        chat.page.goto(chat.url + "board")
        chat.page.locator(".tiles").wait_for()
        with ThreadPoolExecutor(32) as threads:
            for number in range(16):
                threads.submit(ask, server.url, number)
                time.sleep(0.06)
            chat.page.locator("tbody button").nth(7).click()
            chat.page.locator(".waterfall").wait_for()
            chat.page.wait_for_timeout(600)
            chat.page.locator(".board").evaluate("board => board.scrollTo(0, 0)")
            chat.page.mouse.move(5, 840)
            chat.page.screenshot(path=GUIDE / "board.png")
        chat.close()


def ask(url: str, number: int) -> None:
    prompt = f"{number} the sea " * (number % 7 * 8 + 1)
    body = {"prompt": prompt, "max_tokens": 150 + number, "ignore_eos": True}
    httpx.post(f"{url}/v1/completions", json=body, timeout=60)


if __name__ == "__main__":
    main()
