"""`glmserve chat` in a real terminal, with the embedded tiny model."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.tmux import terminal

PLAIN = "import sys; sys.modules['prompt_toolkit'] = None; "
CHAT = "from glmserve.cli.main import main; main(['chat', *sys.argv[1:]])"
GREEDY = ("--temperature", "0", "--max-tokens", "1500", "--dtype", "float32")


def test_a_chat_with_line_editing(tmp_path: Path) -> None:
    if find_spec("prompt_toolkit") is None:
        pytest.skip("needs the chat extra")
    command = [sys.executable, "-c", f"import sys; {CHAT}", *GREEDY]
    with terminal(command, {"XDG_STATE_HOME": str(tmp_path)}) as window:
        window.wait_for("/help lists the commands")
        window.say("hello")
        window.wait_for("Hello! I am glm-tiny")

        window.type("你好吗？")  # wide characters: erased one by one, and typed anew
        window.press("BSpace", "BSpace", "Enter")
        screen = window.wait_for("你好！我是")
        assert "> 你好\n" in screen

        window.type("one")
        window.press("M-Enter")
        window.type("two\\")
        window.press("Enter")
        window.say("three")
        window.wait_for(". three")
        window.wait_for(lambda screen: screen.rstrip().endswith("\n>"))
        window.say("/undo")
        assert "taken back: one\ntwo\nthree" in window.wait_for("taken back: one")

        window.say("/set ignore_eos true")
        window.say("tell me a story")
        window.wait_for(lambda screen: screen.partition("a story\n")[2].strip())
        window.press("C-c")
        window.wait_for("(stopped)")
        window.say("/set ignore_eos off")
        window.say("/stats")
        window.wait_for("pieces in")  # a stopped answer has no counts of tokens

        window.say(f"/save {tmp_path / 'saved.json'}")
        window.wait_for("saved to")
        window.press("Up", "Up")  # history
        window.wait_for(lambda screen: screen.rstrip().endswith("> /stats"))
        window.press("C-c", "C-d")
        window.wait_for("ended 0")
    saved = (tmp_path / "saved.json").read_text()
    assert '"role": "user"' in saved
    assert "three" not in saved
    history = tmp_path / "glmserve" / "chat_history"
    assert "你好" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


@pytest.mark.exhaustive
def test_a_chat_without_the_package_for_editing() -> None:
    command = [sys.executable, "-c", PLAIN + CHAT, *GREEDY, "--device", "null"]
    with terminal(command) as window:
        window.wait_for("note: pip install 'glmserve[chat]'")
        window.say("one\\")
        window.say("two")
        window.wait_for(lambda screen: screen.rstrip().endswith("\n>"))
        window.say("/undo")
        assert "taken back: one\ntwo" in window.wait_for("taken back")
        window.press("C-c")
        window.wait_for("once more")
        window.press("C-d")
        window.wait_for("ended 0")
