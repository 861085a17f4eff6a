"""How many real JSON schemas are honoured, and whether what is honoured is right.

    python bench/json_schemas.py FOLDER

The script fetches nothing. FOLDER must contain one of these, or both:

* `maskbench_sample.jsonl`: one schema per line, as an object with the members `name`, `schema`,
  `valid` and `invalid` (lists of instances), such as those of guidance-ai/jsonschemabench;
* `draft2020-12`: the folder `tests/draft2020-12` of json-schema-org/JSON-Schema-Test-Suite.

Each schema is compiled as by the server: with the guarantee (`strict: true`), and if that is
refused, without the keywords that cannot be guaranteed. Under the guarantee, two things are
checked. No instance that the data call invalid may be accepted. And what models with random weights
write must be valid to the library jsonschema. Valid instances that are not accepted are counted:
the order of properties, for example, is fixed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
from jsonschema.validators import validator_for

import glmserve
from glmserve.errors import InvalidRequestError
from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.structure import (
    CompiledStructure,
    ConstraintError,
    JsonSchema,
    StructureCompiler,
)
from glmserve.text.structure.json_text import JsonText

SAMPLES = 3
"""Texts that random models write for each schema."""
MAX_TOKENS = 400
MASKBENCH, TEST_SUITE = "maskbench_sample.jsonl", "draft2020-12"


class Case(NamedTuple):
    """A schema and instances."""

    name: str
    schema: Any
    valid: list[Any]
    invalid: list[Any]


def maskbench(file: Path) -> Iterator[Case]:
    """The schemas of a file with one JSON object per line."""
    for line in file.read_text().splitlines():
        entry = json.loads(line)
        yield Case(entry["name"], entry["schema"], entry["valid"], entry["invalid"])


def test_suite(folder: Path) -> Iterator[Case]:
    """The schemas of JSON-Schema-Test-Suite."""
    for file in sorted(folder.rglob("*.json")):
        for group in json.loads(file.read_text()):
            tests = group["tests"]
            yield Case(
                f"{file.relative_to(folder)}: {group['description']}",
                group["schema"],
                [test["data"] for test in tests if test["valid"]],
                [test["data"] for test in tests if not test["valid"]],
            )


class Tried:
    """Compiles schemas, and lets instances and random models try the result."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.compiler = StructureCompiler(tokenizer)
        self.stop_ids = frozenset({tokenizer.eos_id})
        pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self._bytes = {piece: i for i, piece in enumerate(pieces) if len(piece) == 1}
        self._closes = [piece[-1:] in (b'"', b"]", b"}") for piece in pieces]

    async def compile(self, case: Case, *, strict: bool) -> CompiledStructure:
        structure = JsonSchema(case.schema, strict=strict)
        return await self.compiler.compile(structure, stop_ids=self.stop_ids)

    def accepts(self, compiled: CompiledStructure, instance: Any) -> bool:
        """Whether the model might write this instance."""
        text = json.dumps(instance, ensure_ascii=False).encode("utf-8", "surrogatepass")
        matcher = compiled.grammar.plain.deep_copy()
        ids = [self._bytes[text[i : i + 1]] for i in range(len(text))]
        is_whole = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
        return is_whole and JsonText(compiled.grammar.unique).push(text)

    def written(self, compiled: CompiledStructure, rng: random.Random) -> str | None:
        """What a random model writes; None if it reaches no end."""
        constraint = compiled.constraint()
        ids: list[int] = []
        while len(ids) < MAX_TOKENS and not constraint.is_finished:
            mask = int.from_bytes(constraint.allowed(), "little")
            allowed = [i for i in range(self.tokenizer.vocab_size) if mask >> i & 1]
            ends = [i for i in allowed if i in self.stop_ids]
            closing = [i for i in allowed if self._closes[i]] if len(ids) > 40 else []
            token_id = rng.choice(ends or closing or allowed)
            if ends:
                break
            constraint.accept(token_id)
            ids.append(token_id)
        return None if len(ids) == MAX_TOKENS else self.tokenizer.decode(ids)


def is_valid(schema: Any, text: str) -> bool:
    """Whether jsonschema finds this text valid."""
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    return bool(kind(schema, format_checker=kind.FORMAT_CHECKER).is_valid(json.loads(text)))


async def run(tried: Tried, cases: list[Case], *, verbose: bool) -> dict[str, int]:
    """Count what becomes of the schemas."""
    counts: Counter[str] = Counter()
    for case in cases:
        try:
            compiled = await tried.compile(case, strict=True)
        except InvalidRequestError as error:
            reason = error.message
            try:
                await tried.compile(case, strict=False)
                counts["lenient"] += 1
                kind = "lenient"
            except InvalidRequestError as second:
                reason, kind = second.message, "refused"
                counts["refused"] += 1
            if verbose:
                print(f"{kind}: {case.name}: {reason}")
            continue
        counts["strict"] += 1
        for problem in check(tried, case, compiled):
            counts[problem.partition(":")[0]] += 1
            if verbose and ":" in problem:
                print(f"{case.name}: {problem}")
    total = len(cases)
    return {"schemas": total, **counts, "strict or lenient": counts["strict"] + counts["lenient"]}


def check(tried: Tried, case: Case, compiled: CompiledStructure) -> Iterator[str]:
    """What is wrong or narrower than the schema, and each instance and text that was tried."""
    for instance in case.invalid:
        if tried.accepts(compiled, instance):
            yield f"wrong: accepts {json.dumps(instance)[:200]}"
    for instance in case.valid:
        yield "valid instances"
        if not tried.accepts(compiled, instance):
            yield f"valid instances not accepted: {json.dumps(instance)[:200]}"
    for seed in range(SAMPLES):
        try:
            text = tried.written(compiled, random.Random(seed))
        except ConstraintError as error:
            yield f"texts ended by an error: {error}"
            continue
        if text is None:
            yield "texts cut by length"
            continue
        yield "texts finished"
        try:
            good = is_valid(case.schema, text)
        except Exception as error:  # the library cannot read the schema
            yield f"texts not checked: {type(error).__name__} {str(error)[:80]}"
            continue
        if not good:
            yield f"wrong: wrote {text[:200]}"


async def main() -> None:
    """Read the arguments, and print the counts as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--verbose", action="store_true", help="name each schema with a problem")
    arguments = parser.parse_args()
    sets = {
        MASKBENCH: maskbench(arguments.folder / MASKBENCH),
        TEST_SUITE: test_suite(arguments.folder / TEST_SUITE),
    }
    present = {name: cases for name, cases in sets.items() if (arguments.folder / name).exists()}
    if not present:
        sys.exit(f"{arguments.folder} has neither {MASKBENCH} nor {TEST_SUITE}; see --help")
    tried = Tried(load_tokenizer(Path(glmserve.__file__).parent / "assets" / "glm-tiny"))
    try:
        for name, cases in present.items():
            began = time.process_time()
            counts = await run(tried, list(cases), verbose=arguments.verbose)
            print(json.dumps({"set": name, **counts}), flush=True)
            print(f"# {time.process_time() - began:.0f} s of CPU time", file=sys.stderr)
    finally:
        await tried.compiler.close()


if __name__ == "__main__":
    asyncio.run(main())
