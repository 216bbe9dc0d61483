"""A matrix of numbers: counts of a pattern, channels, or mains cycles that follow each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.count_matrices import (
    LEAST_PATTERN,
    like_pattern,
    likely_direction,
    rising_rows,
)
from chiasm.diagnosis.preparation.pulses import pattern_picture
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.recorders.recorded import Layout, Recorded, RecorderSettings, remarked
from chiasm.diagnosis.recorders.sampling import sampled
from chiasm.errors import DataError

MOST_CHANNELS = 8  # rows that may as well be channels


def of_matrix(
    values: NDArray[np.float64], settings: RecorderSettings, where: str, *, default: Layout
) -> Recorded:
    """Return a matrix without names as what it is, ``default`` where its numbers do not tell.

    Raises:
        DataError: it can be two things; it names the setting that says which.
    """
    layout = settings.layout
    per_cycle = settings.samples_per_cycle or CYCLE
    if not layout and like_pattern(values, whole=default == "channels"):
        if values.shape[1] % per_cycle == 0 and default == "rows":
            raise DataError(_either(values, where, "mostly 0"))
        layout = "pattern"
    if not layout and default == "rows" and rising_rows(values):
        raise DataError(_either(values, where, "whose rows go from few to many"))
    odd = default == "rows" and values.shape[1] % per_cycle and not settings.is_described
    if not layout and odd and len(values) >= LEAST_PATTERN and values.shape[1] <= 4096:
        raise DataError(
            f"{where} holds {values.shape[0]} x {values.shape[1]} numbers without names, which are "
            f"no cycles of {CYCLE} values: say what they are, layout=pattern (counts by amplitude "
            "and phase), layout=channels (a channel in each row), or layout=rows with "
            f"samples_per_cycle={values.shape[1]} or sample_rate=...",
            see="columns",
        )
    if layout == "pattern":
        return pattern(values, settings, where)
    if not layout and default == "channels" and MOST_CHANNELS < len(values) <= values.shape[1]:
        raise DataError(
            f"{where} has shape {values.shape}: more rows than a recorder has channels. Say what "
            "they are: layout=rows (mains cycles that follow each other), layout=channels or "
            "layout=pattern (counts by amplitude and phase).",
            see="columns",
        )
    if (layout or default) == "channels":
        if values.shape[0] > values.shape[1]:
            raise DataError(
                f"{where} has shape {values.shape}, more channels than values; a series is "
                "(channels, values): transpose it."
            )
        return sampled(values, settings, where)
    read = sampled(values.reshape(1, -1), settings, where)
    if layout or len(values) > MOST_CHANNELS:
        return read
    remark = (
        f"{where}: its {len(values)} rows follow each other in time; layout=channels if each is a "
        "channel."
    )
    return remarked(read, (remark,))


def _either(values: NDArray[np.float64], where: str, how: str) -> str:
    return (
        f"{where} holds {values.shape[0]} x {values.shape[1]} numbers, {how}: counts of a pattern "
        "(layout=pattern), or mains cycles that follow each other (layout=rows). Say which."
    )


def pattern(values: NDArray[np.float64], settings: RecorderSettings, where: str) -> Recorded:
    """Return a matrix of counts as a picture, whichever way its amplitudes grow."""
    if (values < 0).any() or np.isnan(values).any():
        raise DataError(f"{where} has negative or missing counts, which a pattern has not.")
    if not values.any():
        raise DataError(f"{where} has no count above 0, which is no pattern; leave it out.")
    grows = settings.amplitude_grows or "up"
    turned = values.T if grows in ("right", "left") else values
    # The picture has the largest amplitude in its first row.
    turned = turned if grows in ("up", "left") else turned[::-1]
    words = {
        "up": "rows by amplitude with the largest first, columns by phase",
        "down": "rows by amplitude with the smallest first, columns by phase",
        "right": "columns by amplitude with the smallest first, rows by phase",
        "left": "columns by amplitude with the largest first, rows by phase",
    }
    said = (
        f"{where}: {values.shape[0]} x {values.shape[1]} counts were taken as a pattern, "
        f"{words[grows]} from 0 to 360 degrees."
    )
    if not settings.amplitude_grows and (likely := likely_direction(values)) != "up":
        # Small pulses are commoner than large ones, and the phases of pulses go around.
        side = {"down": "first rows", "right": "first columns", "left": "last columns"}[likely]
        raise DataError(
            f"{where}: most of its counts lie in the {side}, as if amplitudes grew from there: if "
            f"so, give amplitude_grows={likely}, else amplitude_grows=up (or right or left, where "
            "rows are phases).",
            see="columns",
        )
    return Recorded(None, pattern_picture(turned), settings.frequency, remarks=(said,))
