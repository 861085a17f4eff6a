"""The tools of a request: functions, functions in namespaces, and those that do not exist here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from glmserve.api.protocol.accepted.responses import NAMESPACE
from glmserve.api.protocol.base import FAIL_FAST, MAX_TOOLS, StrictModel, only_type
from glmserve.api.protocol.tools import FunctionModel, ToolName

_LONGEST_NAME = 128  # of a function

UnavailableType = Literal[
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use",
    "computer_use_preview",
    "custom",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
]
"""Types of tools that other servers run themselves, or that take free text."""


class FlatTool(FunctionModel):
    """A function the model may call."""

    type: Literal["function"]


class NamespaceTool(StrictModel):
    """Functions with a common name, which calls of them repeat."""

    accepted: ClassVar = NAMESPACE

    type: Literal["namespace"]
    name: ToolName
    tools: Annotated[
        list[Annotated[FlatTool, only_type("function")]], FAIL_FAST, Field(max_length=MAX_TOOLS)
    ]


class UnavailableTool(BaseModel):
    """A tool that this server does not have. It is left out, whatever its fields are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: UnavailableType


AnyTool = Annotated[FlatTool | NamespaceTool | UnavailableTool, Field(discriminator="type")]


class FlatNamedTool(StrictModel):
    """One of the tools."""

    type: Literal["function"]
    name: ToolName
    namespace: str | None = None


class FlatAllowedTools(StrictModel):
    """Some of the tools, and whether one of them must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[Annotated[FlatNamedTool, only_type("function")]],
        FAIL_FAST,
        Field(min_length=1, max_length=MAX_TOOLS),
    ]


FlatToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[FlatNamedTool | FlatAllowedTools, Field(discriminator="type")]
)


class FunctionName(NamedTuple):
    """A function's own name, and its namespace."""

    name: str
    namespace: str | None = None


class Functions:
    """The functions that a request offers, by the names that the model reads.

    The model reads a function's own name, and the namespace before it if the own name is taken.
    """

    def __init__(self, tools: Sequence[AnyTool]) -> None:
        functions = list(_functions(tools))
        taken = Counter(function.name for _, function in functions)
        self.offered: list[tuple[str, FlatTool]] = []
        """The name that the model reads, and the function."""
        self._names: dict[str, FunctionName] = {}
        for namespace, function in functions:
            shown = function.name
            if namespace is not None and taken[shown] > 1:
                shown = _qualified(namespace, shown)
            self.offered.append((shown, function))
            self._names[shown] = FunctionName(function.name, namespace)
        self._shown = {name: shown for shown, name in self._names.items()}

    def name(self, shown: str) -> FunctionName:
        """The function that the model calls by this name."""
        return self._names.get(shown, FunctionName(shown))

    def shown(self, name: str, namespace: str | None) -> str:
        """The name that the model reads; that of a function which is not offered is its own."""
        return self._shown.get(FunctionName(name, namespace), name)


def _functions(tools: Sequence[AnyTool]) -> Iterator[tuple[str | None, FlatTool]]:
    for tool in tools:
        match tool:
            case FlatTool():
                yield None, tool
            case NamespaceTool(name=namespace, tools=functions):
                for function in functions:
                    yield namespace, function


def _qualified(namespace: str, name: str) -> str:
    joint = "" if namespace.endswith("_") else "__"
    return f"{namespace}{joint}{name}"[-_LONGEST_NAME:]
