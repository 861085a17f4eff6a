"""One compiler for all tests of a file: it starts a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import glmserve
from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.structure import Structure, StructureCompiler
from support.constrained_sampling import Sampler


class Tried:
    """A compiler for one tokenizer, and a sampler to try what it makes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.compiler = StructureCompiler(tokenizer)
        self.stop_ids = frozenset({tokenizer.eos_id})
        self.sampler = Sampler(tokenizer, self.stop_ids)

    async def constraint(self, structure: Structure, **options: Any) -> Any:
        compiled = await self.compiler.compile(structure, stop_ids=self.stop_ids, **options)
        return compiled.constraint()

    async def texts(self, structure: Structure, number: int, **options: Any) -> set[str]:
        """What random models make of it; all of them must come to the end."""
        compiled = await self.compiler.compile(structure, stop_ids=self.stop_ids, **options)
        texts = set()
        for seed in range(number):
            ids, ended = self.sampler.run(compiled.constraint(), seed=seed)
            assert ended
            texts.add(self.tokenizer.decode(ids))
        return texts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny() -> AsyncIterator[Tried]:
    """glm-tiny's tokenizer: SentencePiece with a dummy blank."""
    tried = Tried(load_tokenizer(Path(glmserve.__file__).parent / "assets" / "glm-tiny"))
    yield tried
    await tried.compiler.close()


@pytest.fixture
def try_tokenizer() -> type[Tried]:
    return Tried
