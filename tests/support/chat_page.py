"""The page in a browser, as a person uses it."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

WAIT = 20_000
"""Milliseconds; a busy machine is no failure."""

_KEEP = """([title, texts]) => new Promise((done) => {
    indexedDB.open("glmserve").onsuccess = (event) => {
        const change = event.target.result.transaction(["chats", "messages"], "readwrite");
        texts.forEach((content, i) => change.objectStore("messages").put({
            id: `m${i}`, chat: "kept", parent: i ? `m${i - 1}` : null, created: i, content,
            role: "assistant", state: "done",
        }));
        change.objectStore("chats").put(
            { id: "kept", title, leaf: `m${texts.length - 1}`, created: 1, updated: 1 });
        change.oncomplete = done;
    };
})"""


class ChatPage:
    """One tab.

    Attributes:
        page: playwright's page.
        problems: errors, refused contents and requests to other hosts so far.
        expected: parts of messages of the console that are no problems.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.context = context
        self.url = url
        self.problems: list[str] = []
        self.expected: list[str] = ["Failed to load resource"]
        context.set_default_timeout(WAIT)
        self.page = self.new_tab()

    def new_tab(self) -> Any:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", self._hear)
        page.on("request", self._watch)
        page.goto(self.url)
        page.wait_for_selector("#composer")
        return page

    def until(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true.

        The page's policy forbids the eval by which playwright would wait inside of it.
        """
        deadline = time.monotonic() + WAIT / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(20)

    def send(self, text: str) -> None:
        self.page.fill("#composer", text)
        self.page.press("#composer", "Enter")

    def ask(self, text: str) -> str:
        """Send a message; the whole answer."""
        before = self.page.locator(".message.assistant").count()
        self.send(text)
        self.until(f"document.querySelectorAll('.message.assistant').length > {before}")
        self.wait_until_answered()
        return self.answer

    def wait_until_answered(self) -> None:
        self.page.wait_for_selector('.message.assistant:last-child [data-action="again"]')

    def wait_for_text(self, least: int) -> None:
        """Until the last answer has so many characters."""
        self.until(
            "[...document.querySelectorAll('.message.assistant .prose')].pop()"
            f"?.textContent.length >= {least}"
        )

    @property
    def answer(self) -> str:
        """The text of the last answer, as it is shown."""
        return str(self.page.locator(".message.assistant .prose").last.inner_text())

    @property
    def user_texts(self) -> list[str]:
        """The texts of questions, once all are drawn: none is empty."""
        bubbles = "[...document.querySelectorAll('.message.user .bubble')]"
        self.until(f"{bubbles}.every(bubble => bubble.innerText)")
        return list(self.page.locator(".message.user .bubble").all_inner_texts())

    @property
    def titles(self) -> list[str]:
        """Of the conversations in the history."""
        return list(self.page.locator(".history .title").all_inner_texts())

    def act(self, name: str, kind: str = "assistant") -> None:
        """Press a button of the last message of a kind."""
        message = self.page.locator(f".message.{kind}").last
        message.hover()
        message.locator(f'[data-action="{name}"]').click()

    def open_settings(self) -> None:
        self.page.get_by_role("button", name="Settings").click()

    def stored(self, store: str) -> list[dict[str, Any]]:
        """What the browser keeps."""
        return list(
            self.page.evaluate(
                """store => new Promise(done => {
                    indexedDB.open("glmserve").onsuccess = (event) => {
                        const base = event.target.result;
                        const all = base.transaction(store).objectStore(store).getAll();
                        all.onsuccess = () => done(all.result);
                    };
                })""",
                store,
            )
        )

    def keep(self, title: str, texts: list[str]) -> None:
        """Put a conversation into the browser's store, and open it. Its messages are answers."""
        self.page.evaluate(_KEEP, [title, texts])
        self.page.goto(self.url + "#/chat/kept")
        self.page.reload()
        self.page.locator(".message.assistant .prose > *").last.wait_for()

    def close(self) -> None:
        self.context.close()

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(
            p in message.text for p in self.expected
        ):
            self.problems.append(f"{message.type}: {message.text}")

    def _watch(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != urlsplit(self.url).netloc:
            self.problems.append(f"asked {request.url}")
