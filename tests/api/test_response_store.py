"""The store of responses never holds more than it may, and forgets the right ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.openai.responses.store import ResponseStore, StoredResponse

OWNERS = (None, "one", "two")
IDS = tuple("abcde")

operations = st.lists(
    st.tuples(
        st.sampled_from(("add", "find", "remove")),
        st.sampled_from(OWNERS),
        st.sampled_from(IDS),
        st.integers(1, 40),
    ),
    max_size=60,
)


def stored(size: int) -> StoredResponse:
    return StoredResponse(b"x" * size, (), ())


@given(operations, st.integers(0, 4), st.integers(1, 100))
def test_it_behaves_like_a_list_in_the_order_of_use(
    operations: list[tuple[str, str | None, str, int]], max_responses: int, max_bytes: int
) -> None:
    store = ResponseStore(max_responses, max_bytes)
    known: list[tuple[tuple[str | None, str], StoredResponse]] = []
    for what, owner, name, size in operations:
        key = owner, name
        found = next((entry for entry in known if entry[0] == key), None)
        if what == "add" and found is None:
            response = stored(size)
            store.add(owner, name, response)
            if size <= max_bytes:
                known.append((key, response))
            while len(known) > max_responses or sum(r.size for _, r in known) > max_bytes:
                del known[0]
        elif what == "find":
            assert store.find(owner, name) is (found[1] if found else None)
            if found:
                known.remove(found)
                known.append(found)
        elif what == "remove":
            assert store.remove(owner, name) == (found is not None)
            if found:
                known.remove(found)
    for (owner, name), response in known:
        assert store.find(owner, name) is response


def test_one_that_is_too_large_costs_no_other() -> None:
    store = ResponseStore(10, max_bytes=50)
    store.add(None, "a", stored(40))
    store.add(None, "b", stored(51))
    assert store.find(None, "a")
    assert not store.find(None, "b")
