"""Finds the smallest weight to keep, without sorting.

A weight is at least 0, so its bits, read as an integer, grow with it: they are its key. The keys
between two bounds are cut into equal parts, one pass over the row measures what lies above each
cut, and the part that holds the answer is cut again. A key grows roughly with the logarithm of its
weight, so cuts are spread evenly over the logits.
"""

from __future__ import annotations

import triton
import triton.language as tl

_KEY_ABOVE_ONE = tl.constexpr(0x3F800001)


@triton.jit
def weight_of(key):
    """The weight with this key."""
    return key.to(tl.float32, bitcast=True)


@triton.jit
def key_of(weight):
    """The key of a weight."""
    return weight.to(tl.int32, bitcast=True)


@triton.jit
def load_weights(weights_ptr, ids, size):
    """Weights of these ids; 0 from `size` on."""
    return tl.load(weights_ptr + ids, mask=ids < size, other=0.0)


@triton.jit
def sum_above(weights_ptr, size, threshold, TILE: tl.constexpr):
    """Sum, in float64, of the weights above `threshold`."""
    sums = tl.zeros([TILE], tl.float32)
    for start in range(0, size, TILE):
        weights = load_weights(weights_ptr, start + tl.arange(0, TILE), size)
        sums += tl.where(weights > threshold, weights, 0.0)
    return tl.sum(sums.to(tl.float64), 0)


@triton.jit
def _measure(weights_ptr, size, low, high, cuts, COUNT: tl.constexpr, TILE: tl.constexpr):
    """Sum of the weights with a key of at least each of the `cuts` [n]; the lowest key from `low`
    on; the highest key below `high`. With COUNT the number of weights instead of their sum.
    """
    # A thread loads runs of four, and adds them up at once: that saves registers.
    runs: tl.constexpr = TILE // 4
    places = 4 * tl.arange(0, runs)[None, :, None] + tl.arange(0, 4)[None, None, :]
    amounts = tl.zeros([cuts.shape[0], runs], tl.float32)
    lowest = tl.full([1, runs], float("inf"), tl.float32)
    highest = tl.zeros([1, runs], tl.float32)
    cut_weights = weight_of(cuts)[:, None, None]
    for start in range(0, size, TILE):
        weights = load_weights(weights_ptr, start + places, size)
        reaching = tl.where(weights >= cut_weights, 1.0 if COUNT else weights, 0.0)
        amounts += tl.sum(reaching, 2)
        from_low = tl.where(weights >= weight_of(low), weights, float("inf"))
        lowest = tl.minimum(lowest, tl.min(from_low, 2))
        below_high = tl.where(weights < weight_of(high), weights, 0.0)
        highest = tl.maximum(highest, tl.max(below_high, 2))
    lowest_key = key_of(tl.min(tl.min(lowest, 1), 0))
    highest_key = key_of(tl.max(tl.max(highest, 1), 0))
    return tl.sum(amounts.to(tl.float64), 1), lowest_key, highest_key


@triton.jit
def find_threshold(
    weights_ptr,
    size,
    floor,
    goal,
    COUNT: tl.constexpr,
    CUTS: tl.constexpr,
    TILE: tl.constexpr,
):
    """The fewest of the largest weights with a sum of `goal`, or with COUNT with a number of
    `goal`.

    They are the weights above the first result, and as many weights equal to it as the second
    result says.

    Args:
        floor: weights of at least this sum up to at least `goal`.
        goal: float64, at least 1; no weight is larger than 1.
    """
    low = key_of(floor)
    high = tl.full([], _KEY_ABOVE_ONE, tl.int32)
    reached = tl.full([], float("inf"), tl.float64)  # by `low`, if not more
    above = tl.zeros([], tl.float64)  # reached by `high`
    while (high - low > 1) & (reached > goal):
        width = (high - low + CUTS) // (CUTS + 1)
        cuts = low + width * (1 + tl.arange(0, CUTS))
        amounts, lowest, highest = _measure(weights_ptr, size, low, high, cuts, COUNT, TILE)
        enough = amounts >= goal
        part = tl.sum(enough.to(tl.int32), 0)
        reached = tl.minimum(reached, tl.min(tl.where(enough, amounts, float("inf")), 0))
        above = tl.maximum(above, tl.max(tl.where(enough, 0.0, amounts), 0))
        high = tl.minimum(tl.minimum(high, low + width * (part + 1)), highest + 1)
        low = tl.maximum(low + width * part, lowest)
    if reached == goal:  # with all from `low` on
        threshold = weight_of(low - 1)
        equals = 0
    else:
        threshold = weight_of(low)
        unit = 1.0 if COUNT else threshold
        equals = tl.minimum(tl.ceil((goal - above) / unit), size).to(tl.int32)
    return threshold, equals


@triton.jit
def last_equal(weights_ptr, size, threshold, count, TILE: tl.constexpr):
    """Id of the last of the first `count` weights that equal `threshold`; -1 if there is none."""
    seen = 0
    last = -1
    for start in range(0, size, TILE):
        ids = start + tl.arange(0, TILE)
        equal = (load_weights(weights_ptr, ids, size) == threshold).to(tl.int32)
        found = tl.sum(equal, 0)
        if (found > 0) & (seen < count):
            wanted = (equal > 0) & (seen + tl.cumsum(equal, 0) <= count)
            last = tl.max(tl.where(wanted, ids, -1), 0)
        seen += found
    return last
