"""Names of models on the command line."""

from __future__ import annotations

import pytest

from glmserve.errors import OptionError
from glmserve.hub import HubName, parse_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("zai-org/chatglm3-6b", HubName("zai-org", "chatglm3-6b")),
        ("THUDM/glm-4-9b-chat@main", HubName("THUDM", "glm-4-9b-chat", "main")),
        ("hf://zai-org/GLM-4.1@refs/pr/7", HubName("zai-org", "GLM-4.1", "refs/pr/7", "hf")),
        ("ms://ZhipuAI/glm-4-9b-chat@v1.0", HubName("ZhipuAI", "glm-4-9b-chat", "v1.0", "ms")),
        ("a/b@0123abc", HubName("a", "b", "0123abc")),
    ],
)
def test_names(text: str, name: HubName) -> None:
    assert parse_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "chatglm3-6b",
        "/models/chatglm3-6b",
        "./a/b",
        "a/b/c",
        "../a/b",
        "a/..",
        "a/b c",
        "",
        "a/",
        "~/a",
    ],
)
def test_paths_are_no_names(text: str) -> None:
    assert parse_name(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf://chatglm3-6b", "no name of a model; write it like hf://"),
        ("ms:///models/a", "no name of a model"),
        ("a/b@../../etc", "is no branch, tag or commit"),
        ("a/b@x..y", "is no branch, tag or commit"),
        ("a/b@-x", "is no branch, tag or commit"),
    ],
)
def test_wrong_names(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        parse_name(text)


def test_the_publisher_has_several_names() -> None:
    name = HubName("THUDM", "glm-4-9b", "main")
    assert [str(n) for n in name.others("hf")] == ["THUDM/glm-4-9b@main", "zai-org/glm-4-9b@main"]
    assert [n.owner for n in name.others("ms")] == ["THUDM", "ZhipuAI", "zai-org"]
    assert [n.owner for n in HubName("someone", "x").others("ms")] == ["someone"]
