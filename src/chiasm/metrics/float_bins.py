"""Bins that need not know the range of the scores: the leading bits of the float32 pattern.

Read as an integer, the bit pattern of a float32 grows with its value (negative numbers need their
bits turned round). Its leading bits are thus bins in order, of constant *relative* width, over
the whole range of numbers. With 2**20 bins, 11 bits of the mantissa remain: two scores that
differ by more than 1 part in 2048 are never in one bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError

MINIMUM_BITS, MAXIMUM_BITS = 12, 24


def float_bins(scores: ArrayLike, bits: int = 20) -> NDArray[np.int32]:
    """Return the bin of each score: a map to integers that never reverses an order.

    Args:
        scores: any shape, no NaN; rounded to float32 first.
        bits: there are ``2 ** bits`` bins; 12 to 24.

    Returns:
        int32 in [0, 2 ** bits), same shape.

    Raises:
        ConfigurationError: ``bits`` is out of range.

    Example:
        >>> float_bins([-1.0, -0.0, 0.0, 1.0, 2.0], bits=12).tolist()
        [1031, 2048, 2048, 3064, 3072]
    """
    if not MINIMUM_BITS <= bits <= MAXIMUM_BITS:
        raise ConfigurationError(
            f"{bits} bits of a score cannot be binned; choose {MINIMUM_BITS} to {MAXIMUM_BITS}."
        )
    # Adding 0 makes a copy and turns -0.0 into 0.0, which must share a bin.
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which has a bin
        single = np.asarray(scores).astype(np.float32, copy=False)
    values = np.add(single, np.float32(0.0))
    pattern = np.atleast_1d(values).view(np.int32)
    if pattern.min(initial=0) < 0:
        pattern ^= (pattern >> 31) & np.int32(0x7FFFFFFF)
    pattern >>= 32 - bits
    pattern += np.int32(1 << (bits - 1))
    return pattern.reshape(values.shape)
