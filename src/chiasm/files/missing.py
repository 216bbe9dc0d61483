"""Which values of a range image mark what was not measured."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.samples import BoolArray

_REPEATED = 2  # pixels at least that hold a marker
# Gaps from a marker to all others, as shares of their range: the more usual it is, the less.
_GAPS = {
    **dict.fromkeys((-32768.0, 32767.0, 65535.0), 0.05),  # ends of integer types
    **dict.fromkeys((-2147483648.0, 2147483647.0, 4294967295.0), 0.05),
    **dict.fromkeys((-1.0, -99.0, -999.0, -9999.0, -99999.0, -999999.0, -1e6), 0.5),
    **dict.fromkeys((9999.0, 99999.0, 999999.0, 1e6), 0.5),
}
_GAP = 10.0  # of any other value
_DOUBTED, _APART = 0.005, 0.5  # share of pixels with one value, and of the range from all others


def missing_values(
    values: NDArray[Any], markers: Collection[float], remarks: list[str] | None = None
) -> BoolArray:
    """Return where nothing was measured, shape of ``values``.

    NaN, infinities and the given markers are missing. So is a smallest or largest value that
    several pixels hold and that is far from all others: the end of an integer type by a twentieth
    of their range, a number such as -9999 by half, any other value by ten times their range.

    Args:
        values: of any shape and numeric type.
        markers: of missing values; where there are any, no other is guessed.
        remarks: gets a sentence for each guess.
    """
    missing = (
        ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=np.bool_)
    )
    for marker in markers:
        missing |= values == np.asarray(marker).astype(values.dtype)
    if markers:
        return missing
    for end in (np.min, np.max):
        marker = _marker(values[~missing], end)
        if marker is not None:
            places = values == marker
            if remarks is not None:
                remarks.append(
                    f"The value {marker:g} is far from all others and stands at many pixels: it is "
                    "taken for missing (--missing names another marker)."
                )
            missing |= places
        elif remarks is not None and (doubt := _doubt(values[~missing], end)):
            remarks.append(doubt)
    return missing


def _doubt(values: NDArray[Any], end: Any) -> str:
    """Return a sentence on a smallest or largest value that may be a marker, "" without one."""
    present = values[values != 0]
    if not present.size:
        return ""
    extreme = end(present)
    others = present[present != extreme]
    share = 1 - others.size / present.size
    if share < _DOUBTED or not others.size:
        return ""
    low, high = float(others.min()), float(others.max())
    gap = low - float(extreme) if end is np.min else float(extreme) - high
    if gap <= _APART * (high - low) or high == low:
        return ""
    return (
        f"The value {extreme:g} stands at {share:.0%} of the pixels, apart from all others "
        f"({low:.4g} to {high:.4g}): if it marks what was not measured, name it (--missing "
        f"{extreme:g})."
    )


def _marker(values: NDArray[Any], end: Any) -> Any:
    """Return the smallest or largest value if it is a marker, else None."""
    # 0 marks what is missing nearly everywhere, and says nothing of the range of the others.
    present = values[values != 0]
    if present.size <= _REPEATED:
        return None
    extreme = end(present)
    others = present[present != extreme]
    if others.size == 0 or present.size - others.size < _REPEATED:
        return None
    low, high = float(others.min()), float(others.max())
    gap = low - float(extreme) if end is np.min else float(extreme) - high
    if float(extreme) < 0 < low and low > 0.5 * (high - low):
        return extreme  # nothing lies behind a camera
    usual = float(extreme) in _GAPS
    # Where all others are nearly equal, an unusual number may still be a second surface.
    spread = max(high - low, 0.0 if usual else 0.5 * max(abs(low), abs(high)))
    return extreme if gap > _GAPS.get(float(extreme), _GAP) * spread else None
