from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glmserve.errors import GlmserveError, InvalidRequestError
from glmserve.text.structure import (
    Choice,
    ConstraintError,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    Structure,
    StructureCompiler,
    Without,
)
from glmserve.text.structure.compiler import CACHE_SIZE

pytestmark = pytest.mark.asyncio(loop_scope="module")


def chain(link: str, last: str, length: int) -> str:
    links = [link.format(number, number + 1) for number in range(length)]
    return "\n".join(["start: a0", *links, last.format(length)])


PATHOLOGICAL: dict[str, Structure] = {
    "rules in a row": Grammar(chain('a{}: "x" a{} | "y"', 'a{}: "z"', 2000)),
    "terminals in a row": Grammar(
        chain('A{}: "x" A{} | "y"', 'A{}: "z"', 2000).replace("start: a", "start: A")
    ),
    "nested groups": Grammar("start: " + "(" * 5000 + '"a"' + ")" * 5000),
    "nested regex groups": Regex("(" * 4000 + "a" + ")" * 4000),
    "references in a row": JsonSchema(
        {
            "$ref": "#/$defs/0",
            "$defs": {
                **{str(i): {"items": {"$ref": f"#/$defs/{i + 1}"}} for i in range(900)},
                "900": {},
            },
        }
    ),
    "optional characters": Regex("a?" * 5000),
    "counted counts": Grammar('start: ((("a"{0,1000}){0,1000}){0,1000}){0,1000}'),
    "intersections": JsonSchema(
        {"allOf": [{"anyOf": [{"required": [f"x{i}"]}, {"required": ["y"]}]} for i in range(14)]}
    ),
    "negations": Grammar("start: X\nX: ~/(?s:.*)(a.{15}b)(?s:.*)/ & /(?s:.*)/"),
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
async def test_pathological_structures_are_refused(tiny: Any, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"too|nested|invalid regex") as caught:
        await tiny.constraint(PATHOLOGICAL[name], param="guided")
    assert caught.value.param == "guided"
    assert await tiny.texts(Choice(("still here",)), 1) == {"still here"}


async def test_what_is_large_but_plain_is_fine(tiny: Any) -> None:
    optional = {f"name {number}": {"type": "string"} for number in range(500)}
    for structure in (
        JsonSchema({"type": "object", "properties": optional}),
        JsonSchema({"enum": [f"value {number}" for number in range(3000)]}),
        JsonSchema({"type": "string", "minLength": 9000, "maxLength": 10_000}),
        Choice(tuple(f"choice {number}" for number in range(1000))),
    ):
        assert (await tiny.constraint(structure)).allowed()


async def test_words_are_no_regexes(tiny: Any) -> None:
    constraint = await tiny.constraint(Without(("a.c", "(")))
    tiny.sampler.force(constraint, [b"a", b"b", b"c"])


async def test_one_compilation_serves_all_who_wait(tiny: Any) -> None:
    structure = Regex("shared[0-9]")
    several = await asyncio.gather(
        *(tiny.compiler.compile(structure, stop_ids=tiny.stop_ids) for _ in range(5))
    )
    assert len({id(compiled.grammar) for compiled in several}) == 1


async def test_one_of_them_may_leave(tiny: Any) -> None:
    first, second = (
        asyncio.create_task(tiny.compiler.compile(Regex("left[0-9]"), stop_ids=tiny.stop_ids))
        for _ in range(2)
    )
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).constraint().allowed()
    assert first.cancelled()


async def test_equal_schemas_are_compiled_once_and_the_cache_is_bounded(tiny: Any) -> None:
    compiler = tiny.compiler
    one = await compiler.compile(JsonSchema({"type": "null"}), stop_ids=tiny.stop_ids)
    other = await compiler.compile(
        JsonSchema({"type": "null", "title": "nothing"}), stop_ids=frozenset({5})
    )
    assert one.grammar is other.grammar
    for number in range(CACHE_SIZE):
        await compiler.compile(Choice((f"number {number}",)), stop_ids=tiny.stop_ids)
    again = await compiler.compile(JsonSchema({"type": "null"}), stop_ids=tiny.stop_ids)
    assert again.grammar is not one.grammar


async def test_refused_structures_are_not_remembered(tiny: Any) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequestError):
            await tiny.constraint(Regex("("))


async def test_stop_ids_are_allowed_where_the_text_may_end(tiny: Any) -> None:
    stop_ids = frozenset({tiny.tokenizer.eos_id, tiny.tokenizer.special_ids["sop"]})
    compiled = await tiny.compiler.compile(Regex("a{1,2}"), stop_ids=stop_ids)
    constraint = compiled.constraint()

    def ends() -> set[int]:
        return set(tiny.sampler.allowed(constraint).nonzero()[0]) & stop_ids

    assert not ends()
    tiny.sampler.force(constraint, [b"a"])
    assert ends() == stop_ids
    assert not constraint.is_finished
    for token_id in stop_ids:
        constraint.accept(token_id)
    assert ends() == stop_ids
    tiny.sampler.force(constraint, [b"a"])
    assert constraint.is_finished
    assert set(tiny.sampler.allowed(constraint).nonzero()[0]) == stop_ids


async def test_a_stop_id_that_the_tokenizer_lacks_changes_nothing(tiny: Any) -> None:
    ends = [
        (await tiny.compiler.compile(Regex("a*"), stop_ids=stop_ids)).constraint().allowed()
        for stop_ids in (frozenset[int](), frozenset({tiny.tokenizer.vocab_size, 10**9}))
    ]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("structure", "has_lead_in"),
    [
        (Choice(("yes", "no")), True),
        (Choice(("yes", " no")), False),
        (Choice(("yes", "\nno")), False),
        (Regex("[ \n]*[0-9]"), False),
        (Grammar('start: "\\n"? "yes"'), False),
        (JsonObject(), True),
    ],
)
async def test_whitespace_of_the_text_is_no_lead_in(
    tiny: Any, structure: Structure, has_lead_in: bool
) -> None:
    compiled = await tiny.compiler.compile(structure, stop_ids=tiny.stop_ids, lead_in="\n? ?")
    assert compiled.has_lead_in == has_lead_in


async def test_only_text_is_allowed(tiny: Any) -> None:
    """No special or unused token, and none without bytes, which could go on for ever."""
    tokenizer = tiny.tokenizer
    constraint = await tiny.constraint(Without(("never said",)))
    for _ in range(3):
        allowed = set(tiny.sampler.allowed(constraint).nonzero()[0]) - tiny.stop_ids
        assert not allowed & {*tokenizer.special_ids.values(), *tokenizer.never_sampled}
        assert all(tokenizer.token_bytes(int(token_id)) for token_id in allowed)
        tiny.sampler.force(constraint, [b"a"])


async def test_constraints_of_one_structure_are_independent(tiny: Any) -> None:
    compiled = await tiny.compiler.compile(JsonObject(), stop_ids=tiny.stop_ids)
    one, other = compiled.constraint(), compiled.constraint()
    tiny.sampler.force(one, [b"{", b"}"])
    assert one.is_finished
    assert not other.is_finished
    tiny.sampler.force(other, [b"{", b'"', b"a", b'"'])


async def test_a_limit_met_in_the_middle_ends_the_request_not_the_structure(tiny: Any) -> None:
    structure = Regex("broken[0-9]+")
    compiled = await tiny.compiler.compile(structure, stop_ids=tiny.stop_ids)
    constraint = compiled.constraint()
    tiny.sampler.force(constraint, [b"b"])
    wrong = tiny.sampler.allowed(constraint).argmin()
    constraint.accept(int(wrong))  # as good as a limit: the matcher is in error
    assert not constraint.is_finished
    with pytest.raises(ConstraintError) as caught:
        constraint.allowed()
    assert isinstance(caught.value, GlmserveError)
    assert caught.value.http_status == 400
    fresh = await tiny.compiler.compile(structure, stop_ids=tiny.stop_ids)
    assert fresh.grammar is not compiled.grammar
    assert fresh.constraint().allowed()


async def test_closing_without_use(tiny: Any) -> None:
    await StructureCompiler(tiny.tokenizer).close()


async def test_closing_gives_up_what_waits_for_its_turn(tiny: Any) -> None:
    compiler = StructureCompiler(tiny.tokenizer)
    await compiler.prepare()
    patterns = (f"{number}(\\pL{{1,200}}){{1,200}}" for number in range(9))
    waiting = [
        asyncio.create_task(compiler.compile(Regex(pattern), stop_ids=tiny.stop_ids))
        for pattern in patterns
    ]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await compiler.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[-1], asyncio.CancelledError)


async def test_prepare_makes_everything_ready(tiny: Any) -> None:
    compiler = StructureCompiler(tiny.tokenizer)
    await compiler.prepare()
    assert (await compiler.compile(JsonObject(), stop_ids=tiny.stop_ids)).constraint().allowed()
    await compiler.close()
