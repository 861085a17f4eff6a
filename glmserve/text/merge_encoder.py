"""Byte-level BPE by a list of merges, as the tokenizers library computes it.

GLM-4's own files need no such list: there the order of the merges follows from the ids, and
tiktoken merges faster. Tokenizers that were trained otherwise have an order of their own.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

_CACHED_WORDS = 65_536
_LONGEST_CACHED = 64
"""Characters of a word; longer ones hardly come twice."""


class MergeEncoder:
    """Encodes text without special tokens.

    Args:
        vocabulary: id by the bytes of a token; every single byte is one.
        merges: pairs of tokens, in the order of their priority.
        pattern: regex of the words within which tokens are merged.
        keeps_gaps: text between two words is a word, too; else it is left out.
        prefers_words: a word that is a token is never split.

    Raises:
        ValueError: the pattern is no regex.
    """

    def __init__(
        self,
        vocabulary: Mapping[bytes, int],
        merges: Sequence[tuple[bytes, bytes]],
        pattern: str,
        *,
        keeps_gaps: bool,
        prefers_words: bool,
    ) -> None:
        import regex  # here, because other tokenizers do without it

        self._vocabulary = vocabulary
        self._merges: dict[tuple[int, int], tuple[int, int]] = {}
        """Priority and result by the ids of a pair."""
        for priority, (left, right) in enumerate(merges):
            pair = vocabulary[left], vocabulary[right]
            self._merges.setdefault(pair, (priority, vocabulary[left + right]))
        try:
            self._pattern = regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"its pattern is no regex: {error}") from None
        self._keeps_gaps = keeps_gaps
        self._prefers_words = prefers_words
        self._cache: OrderedDict[str, list[int]] = OrderedDict()

    def encode_ordinary(self, text: str) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = []
        for word in self._words(text):
            ids += self._encoded(word)
        return ids

    def _words(self, text: str) -> Iterator[str]:
        end = 0
        for match in self._pattern.finditer(text):
            if self._keeps_gaps and match.start() > end:
                yield text[end : match.start()]
            end = match.end()
            if match[0]:
                yield match[0]
        if self._keeps_gaps and end < len(text):
            yield text[end:]

    def _encoded(self, word: str) -> list[int]:
        if len(word) > _LONGEST_CACHED:
            return self._merged(word.encode())
        found = self._cache.get(word)
        if found is None:
            found = self._cache[word] = self._merged(word.encode())
            if len(self._cache) > _CACHED_WORDS:
                self._cache.popitem(last=False)
        return found

    def _merged(self, data: bytes) -> list[int]:
        """Merge the pair with the best priority, and of equal ones the first, until there is none.

        A heap holds the pairs that can be merged, so a word of n bytes takes n log n.
        """
        if self._prefers_words and data in self._vocabulary:
            return [self._vocabulary[data]]
        ids = [self._vocabulary[data[i : i + 1]] for i in range(len(data))]
        after = [*range(1, len(ids)), -1]
        before = [*range(-1, len(ids) - 1)]
        heap: list[tuple[int, int, int, int]] = []

        def offer(left: int) -> None:
            right = after[left]
            merge = self._merges.get((ids[left], ids[right])) if right >= 0 else None
            if merge is not None:
                heapq.heappush(heap, (merge[0], left, ids[left], ids[right]))

        for place in range(len(ids)):
            offer(place)
        while heap:
            _, left, first, second = heapq.heappop(heap)
            right = after[left]
            if ids[left] != first or right < 0 or ids[right] != second:
                continue  # one of them has been merged
            ids[left], ids[right] = self._merges[first, second][1], -1
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            offer(left)
            if before[left] >= 0:
                offer(before[left])
        return [token for token in ids if token >= 0]
