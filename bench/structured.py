"""What structured output costs per token: microseconds of `allowed`, by structure and vocabulary.

    python bench/structured.py [TOKENIZER_FOLDER ...]

Each structure is followed by a model that chooses at random among the allowed tokens. `allowed`
runs beside the device's forward pass; of it, only the part after llguidance's own computation
holds the interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from pathlib import Path

import glmserve
from glmserve.request import TokenConstraint
from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.structure import (
    Choice,
    JsonObject,
    JsonSchema,
    Regex,
    Structure,
    StructureCompiler,
    Without,
)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 50},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 8},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"pattern": "^[0-9]{5}$"}},
            "required": ["street", "zip"],
        },
    },
    "required": ["name", "age", "email", "tags", "address"],
}
STRUCTURES: dict[str, Structure] = {
    "json_object": JsonObject(),
    "json_schema": JsonSchema(PERSON),
    "regex": Regex(r"[A-Z][a-z]+( [A-Z][a-z]+){0,30}"),
    "choice": Choice(tuple(f"option {number}" for number in range(100))),
    "without": Without(("forbidden", "bad words", "禁止")),
}
SEQUENCES, TOKENS = 8, 100


def follow(constraint: TokenConstraint, tokenizer: Tokenizer, seed: int) -> list[float]:
    """Seconds of each call of `allowed` along one random text."""
    rng, times = random.Random(seed), []
    for _ in range(TOKENS):
        start = time.perf_counter()
        mask = constraint.allowed()
        times.append(time.perf_counter() - start)
        bits = int.from_bytes(mask, "little")
        place = rng.randrange(bits.bit_length())
        rest = (bits >> place) << place
        token_id = (rest & -rest).bit_length() - 1
        if token_id == tokenizer.eos_id:
            break
        constraint.accept(token_id)
        if constraint.is_finished:
            break
    return times


async def measure(tokenizer: Tokenizer) -> None:
    compiler = StructureCompiler(tokenizer)
    start = time.perf_counter()
    await compiler.prepare()
    print(f"{tokenizer.vocab_size} tokens, prepared in {time.perf_counter() - start:.2f} s")
    print(f"{'':14}{'compile ms':>12}{'p50 us':>10}{'p99 us':>10}{'max us':>10}")
    for name, structure in STRUCTURES.items():
        start = time.perf_counter()
        compiled = await compiler.compile(structure, stop_ids=frozenset({tokenizer.eos_id}))
        compile_ms = (time.perf_counter() - start) * 1e3
        times = sorted(
            seconds * 1e6
            for seed in range(SEQUENCES)
            for seconds in follow(compiled.constraint(), tokenizer, seed)
        )
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"{name:14}{compile_ms:12.1f}{p50:10.0f}{p99:10.0f}{times[-1]:10.0f}")
    await compiler.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="tokenizers, beside glm-tiny's")
    embedded = Path(glmserve.__file__).parent / "assets" / "glm-tiny"
    for folder in [embedded, *parser.parse_args().folders]:
        asyncio.run(measure(load_tokenizer(folder)))


if __name__ == "__main__":
    main()
