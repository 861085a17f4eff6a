"""Python calls of literals: read as Python reads them, or refused."""

from __future__ import annotations

import ast
import contextlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.tools.python_call import read_python_call, write_python_call


def of_python(code: str) -> dict[str, object]:
    """The same by Python's own parser; it is safe with the texts of these tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = ast.parse(code.strip(), mode="eval").body
        assert isinstance(call, ast.Call)
        return {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}


@pytest.mark.parametrize(
    "code",
    [
        "tool_call()",
        "tool_call(a=1, b=-2.5e3, c=.5, d=1., e=+3, f=0,)",
        "tool_call(a=True, b=False, c=None)",
        "tool_call(a='x', b=\"it's\", c='it\\'s', d='', e=\"\")",
        "tool_call(a='''x\n'y' \\''z''', b=\"\"\"x\"y\"\"\")",
        "tool_call(a='one ' 'two' \"three\")",
        r"tool_call(a='\n\t\\\x41\u4e2d\U0001f600\101\0\N{SNOWMAN}\q\/')",
        "tool_call(a='line\\\nline')",
        "tool_call( a = [ 1 , [ ] , [ 2 ] ] )",
        "tool_call(a=(1), b=[[], {}], c={'x': {'y': 'z'}, \"w\" 'v': 1,})",
        "\n tool_call(\n  城市='北京',\n  日=1\n)\n",
    ],
)
def test_as_python(code: str) -> None:
    assert read_python_call(code) == of_python(code)


def test_tuples_are_lists() -> None:
    assert read_python_call("tool_call(a=(1, ('x',), ()), b=((1)))") == {
        "a": [1, ["x"], []],
        "b": 1,
    }


def test_json_literals_are_taken() -> None:
    code = 'tool_call(a=true, b=false, c=null, d={"x": [1.5e3, "\\n"]})'
    assert read_python_call(code) == {"a": True, "b": False, "c": None, "d": {"x": [1500, "\n"]}}
    assert read_python_call('tool_call(a="\\ud83d\\ude00")') == {"a": "😀"}


def test_arguments_in_a_dict() -> None:
    assert read_python_call("tool_call(**{'a-b': 1}, c=2)") == {"a-b": 1, "c": 2}
    assert write_python_call({"a-b": 1, "class": 2}) == "tool_call(**{'a-b': 1, 'class': 2})"
    assert write_python_call({"city": "北京", "n": 1}) == "tool_call(city='北京', n=1)"


@pytest.mark.parametrize(
    "arguments",
    [
        *("a", "1", "a=1 b=2", "a=1,,", ",a=1", "a=", "=1", "a=1, a=2", "**1", "**{'a': 1}, a=2"),
        *("a=b", "a=b()", "a=1+1", "a=--1", "a=[1", "a=1)", "a=lambda: 1", "a=(,)", "a=[,]"),
        *("a=nan", "a=inf", "a=1e999", "a=-1e999", "a={1, 2}", "a={1: 2}", "a={'a': 1 'b': 2}"),
        *("a=b'x'", "a=f'x'", "a='x", "a='\\ud800'", "a='\\U00110000'", "a='\\N{NO SUCH}'"),
        *(
            "a=1_000",
            "a=0x10",
            "a=1j",
            "a=x.y",
            "a=...",
            "a=1 # one",
            "a='x'\x00",
            "a=" + "9" * 5000,
        ),
        *(
            "a=" + "[" * 65 + "]" * 65,
            "a=" + "(" * 100_000,
            "a=" + "-" * 100_000,
            "a=" + "{" * 9999,
        ),
    ],
)
def test_refused(arguments: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_python_call(f"tool_call({arguments})")


@pytest.mark.parametrize(
    "code", ["", "tool_call", "tool_call()()", "tool_call();x", "print()", "x = tool_call()", "1"]
)
def test_not_a_call(code: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_python_call(code, "get_weather")


@given(st.text(st.sampled_from("tol_ca()[]{}=:,'\"\\ \n*1.eNax#+-")))
def test_garbage_is_refused_or_read(code: str) -> None:
    for text in (code, f"tool_call({code})"):
        try:
            arguments = read_python_call(text)
        except ValueError:
            continue
        assert read_python_call(write_python_call(arguments)) == arguments


@pytest.mark.parametrize(
    "code",
    [
        "tool_call(a=" + "1" * 1_000_000 + "x)",
        "tool_call(a='" + r"\N{" * 1_000_000 + "')",
        "tool_call(a=" + "'" * 1_000_001 + ")",
        "tool_call(" + " " * 1_000_000 + "§",
    ],
)
def test_odd_text_is_read_in_linear_time(code: str) -> None:
    """In quadratic time none of these would come to its end."""
    with contextlib.suppress(ValueError):
        read_python_call(code)
