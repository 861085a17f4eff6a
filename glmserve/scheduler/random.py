"""The randomness of a token: a function of its request's seed and its position, nothing else.

So sampled text survives preemption, another batch, another worker and a restart.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GAMMA = 0x9E37_79B9_7F4A_7C15


def noise_key(seed: int, position: int) -> int:
    """64 bits for the token at `position`; the runner derives all its random numbers from them.

    SplitMix64 (Steele, Lea, Flood 2014: "Fast splittable pseudorandom number generators"), used
    as a counter-based generator: the seed is mixed first, so that neighbouring seeds do not
    produce overlapping sequences.
    """
    return _mix((_mix(seed & _MASK) + position * _GAMMA) & _MASK)


def _mix(z: int) -> int:
    """SplitMix64's finaliser: every output bit depends on every input bit."""
    z = (z + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return z ^ (z >> 31)
