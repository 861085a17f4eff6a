"""What a model says runs nothing, asks nobody, and breaks no layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.chat_page import ChatPage
from support.scripted import ScriptedRunner

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]

MARKUP = """<script>window.hit = 1</script> <img src=x onerror="window.hit = 1">
<iframe src="https://example.org"></iframe><svg onload="window.hit = 1"></svg>

[a](javascript:window.hit=1) [b](data:text/html,<script>window.hit=1</script>) [c](vbscript:x)
[d](JaVaScRiPt:window.hit=1) [e](//example.org/x) [f](https://example.org/ok) [g](../admin/drain)
[h](\tjavascript:window.hit=1) [i](file:///etc/passwd) <https://example.org/auto>

![picture](https://example.org/tracker.png) ![x](javascript:window.hit=1)

`<b>code</b>` **<i>bold</i>**

```html
<script>window.hit = 1</script>
```

$\\href{javascript:window.hit=1}{x}$ and $\\includegraphics{https://example.org/x.png}$
"""
CONTROL = "\x1b[31mred\x1b[0m \x07 \u202eesrever\u202c \u2066isolate \u200fmark\n\n`\u202ecode`\n"
WIDE = "a" * 5000 + "\n\n" + "| " + " | ".join("column" + str(i) for i in range(60)) + " |\n"
NESTED = ">" * 60 + " deep\n\n" + "- " * 40 + "x\n\n" + "**_" * 50 + "x\n" + "[" * 500 + "](" * 200


def overflow(page: Any) -> int:
    return int(page.evaluate("document.querySelector('.scroller').scrollWidth - innerWidth"))


def test_markup_is_text(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner(MARKUP))
    chat.ask("x")
    page = chat.page
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    text = page.locator(".message.assistant .prose")
    assert text.locator("script, img, iframe, svg:not(.katex svg)").count() == 0
    assert "<script>window.hit = 1</script>" in text.inner_text()
    addresses = text.locator("a[href]").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert addresses
    assert all(address.startswith("https://example.org/") for address in addresses)
    links = text.locator("a[href]")
    assert set(links.evaluate_all("all => all.map(a => a.rel)")) == {"noopener noreferrer"}


def test_marks_that_act_on_other_text_are_named(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner(CONTROL))
    answer = chat.ask("x")
    assert "␛[31mred" in answer
    assert "⟨U+202E⟩esrever" in answer
    assert "\u202e" not in answer


@pytest.mark.parametrize("width", [360, 1200])
def test_no_text_is_wider_than_the_page(fake_page: Opener, width: int) -> None:
    chat = fake_page(ScriptedRunner("x"), page={"viewport": {"width": width, "height": 700}})
    for text in (WIDE, NESTED, MARKUP, CONTROL):
        chat.keep("hostile", [text])
        assert overflow(chat.page) <= 0


def test_a_megabyte_of_markdown(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("x"))
    block = "## Heading\n\nSome **bold** `code` [link](https://example.org)\n\n* item\n* item\n\n"
    chat.keep("long", [block * (1_000_000 // len(block))])
    expected = 1_000_000 // len(block)
    chat.until(f"document.querySelectorAll('.message .prose h2').length === {expected}")
    chat.page.fill("#composer", "the page still reacts")


def test_names_of_conversations_and_models_are_text(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("x"))
    chat.ask("<img src=x onerror='window.hit=1'>\u202e")
    assert chat.titles == ["<img src=x onerror='window.hit=1'>\u202e"]
    assert chat.page.evaluate("window.hit") is None
