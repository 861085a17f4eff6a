"""The random numbers of a token depend only on its request's seed and its position.

So sampled text is the same after a preemption, in another batch, on another worker and after a
restart.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GAMMA = 0x9E37_79B9_7F4A_7C15  # 2**64 divided by the golden ratio, odd; from the paper below


def noise_key(seed: int, position: int) -> int:
    """64 bits for the token at `position`, from which the runner derives all its random numbers.

    This is SplitMix64 (Steele, Lea, Flood 2014: "Fast splittable pseudorandom number generators")
    as a counter-based generator. The seed is mixed first, so that adjacent seeds do not produce
    overlapping sequences.
    """
    return _mix((_mix(seed & _MASK) + position * _GAMMA) & _MASK)


def _mix(z: int) -> int:
    """SplitMix64's finaliser: every output bit depends on every input bit."""
    z = (z + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return z ^ (z >> 31)
