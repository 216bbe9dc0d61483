"""What anyone can read off a recording without looking at its pattern."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from chiasm.samples import DischargeSample

_ROLES = {"series": "size of the series' file", "image": "size of the picture's file"}


def trivial_numbers(
    sample: DischargeSample, files: Mapping[str, Path] | None = None
) -> dict[str, float]:
    """Return the numbers that anyone can read off a recording, those of absent parts left out.

    Amplitudes in the recorder's counts, brightness in [0, 1], files in bytes.
    """
    numbers: dict[str, float] = {}
    if sample.series is not None:
        numbers["mean of the series"] = float(sample.series.mean(dtype=np.float64))
        numbers["maximum of the series"] = float(sample.series.max())
    if sample.image is not None:
        numbers["brightness of the picture"] = float(sample.image.mean(dtype=np.float64))
    for role, name in _ROLES.items():
        path = (files or {}).get(role)
        if path is not None and Path(path).is_file():
            numbers[name] = float(Path(path).stat().st_size)
    return numbers
