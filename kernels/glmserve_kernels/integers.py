"""Arithmetic for grids. Triton's own cdiv and next_power_of_2 serve inside of kernels as well, and
take the host some 2 us a call."""

from __future__ import annotations


def ceil_div(dividend: int, divisor: int) -> int:
    """dividend / divisor, rounded up."""
    return -(-dividend // divisor)


def next_power_of_2(number: int) -> int:
    """The smallest power of two that is not less than `number`, which is positive."""
    return 1 << (number - 1).bit_length()
