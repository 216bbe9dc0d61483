"""Corruptions of recordings at known strengths, for tests, never for training.

All functions are pure and deterministic: noise is seeded by the recording's content, so that it
does not depend on the order of recordings. An absent modality stays absent.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from chiasm.diagnosis.augmentation.views import ground_colour
from chiasm.errors import DataError
from chiasm.samples import RecordingSample

Look = Literal["colour map", "grey", "inverted"]
Corruption = Callable[[RecordingSample, RecordingSample], RecordingSample]

PHASES_DEG = (-120, -60, -30, 30, 60, 120)
GAINS = (0.3, 0.5, 2.0, 3.0)
NOISES_DB = (20, 10, 0)
LENGTHS_S = (10, 5, 1)
LOOKS: tuple[Look, ...] = ("colour map", "grey", "inverted")
MISPAIRED = "picture of another recording"

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# A pixel is a dot if it differs from the ground by more than anti-aliasing does.
_GROUND_TOLERANCE = 0.06


def shift_phase(sample: RecordingSample, degrees: float) -> RecordingSample:
    """Roll picture and series together, as if the phase reference were wrong; positive is later.

    The series is rolled by the nearest whole number of values, the picture's columns by the same
    angle, including a sine drawn in it. Values that leave the last cycle enter the first one.
    """
    cycle, series, image = sample.samples_per_cycle, sample.series, sample.image
    half = cycle // 2
    bins = (round(degrees / 360 * cycle) + half) % cycle - half  # at most half a cycle
    share = bins / cycle if series is not None else degrees / 360
    if series is not None:
        total = series.shape[1]
        index = np.arange(total) - bins
        # Only whole cycles wrap around: an incomplete last cycle would break the phase.
        index[index < 0] += total // cycle * cycle
        index[index >= total] -= total // cycle * cycle
        series = series[:, index]
    if image is not None:
        image = np.roll(image, round(share * image.shape[1]), axis=1)
    return replace(sample, series=series, image=image)


def amplify(sample: RecordingSample, gain: float) -> RecordingSample:
    """Multiply the series; the picture, whose scale is the recorder's, is not changed."""
    if sample.series is None:
        return sample
    return replace(sample, series=sample.series * np.float32(gain))


def add_noise(sample: RecordingSample, snr_db: float) -> RecordingSample:
    """Add white noise to series and picture, each at the signal-to-noise ratio.

    The signal is the deviation from the background: each channel's median in the series, the
    ground's colour in the picture. Colours stay in [0, 1]; amplitudes are not clipped, because a
    clipped floor is no longer noise, and signed series would lose one direction.
    """
    rng = np.random.default_rng([_fingerprint(sample), round(1000 * snr_db) % 2**32])
    ratio = 10 ** (-snr_db / 20)
    series, image = sample.series, sample.image
    if series is not None:
        background = np.median(series, axis=1, keepdims=True)  # (C, 1)
        strength = np.sqrt(np.square(series - background).mean(axis=1, keepdims=True))
        noise = rng.standard_normal(series.shape, dtype=np.float32)
        series = np.asarray(series + noise * (ratio * strength), np.float32)
    if image is not None:
        strength = np.sqrt(np.square(image - ground_colour(image)).mean())
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(image + noise * (ratio * strength), 0, 1, dtype=np.float32)
    return replace(sample, series=series, image=image)


def shorten(sample: RecordingSample, seconds: float) -> RecordingSample:
    """Keep the first seconds of the series, in whole cycles, one at least.

    The picture still shows the whole recording: the recorder's drawing cannot be repeated.
    """
    if sample.series is None:
        return sample
    cycles = max(1, round(seconds * sample.frequency))
    return replace(sample, series=sample.series[:, : cycles * sample.samples_per_cycle].copy())


def recolour(sample: RecordingSample, look: Look) -> RecordingSample:
    """Change the colours of the picture.

    ``"colour map"`` maps the brightness of the dots to 'cividis', on the same ground; ``"grey"``
    keeps only the brightness; ``"inverted"`` inverts each channel.
    """
    image = sample.image
    if image is None:
        return sample
    if look == "inverted":
        return replace(sample, image=np.float32(1) - image)
    grey = image @ _GREY  # (H, W)
    if look == "grey":
        return replace(sample, image=np.repeat(grey[..., None], 3, axis=2))
    levels = np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)
    painted = cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)[..., ::-1].astype(np.float32) / 255
    dots = np.abs(image - ground_colour(image)).max(axis=2) > _GROUND_TOLERANCE
    return replace(sample, image=np.where(dots[..., None], painted, image))


def mispair(sample: RecordingSample, other: RecordingSample) -> RecordingSample:
    """Replace the picture by that of another recording; label and source stay."""
    return replace(sample, image=other.image)


def partners(labels: ArrayLike, *, seed: int = 0) -> list[int]:
    """Draw for each recording the index of one of another class, to mispair pictures.

    Raises:
        DataError: all recordings are of one class.
    """
    classes = np.asarray(labels)
    indices: list[int] = []
    rng = np.random.default_rng(seed)
    for label in classes.tolist():
        others = np.flatnonzero(classes != label)
        if not others.size:
            raise DataError(
                "All recordings are of one class; mispairing pictures needs another class."
            )
        indices.append(int(rng.choice(others)))
    return indices


def _fingerprint(sample: RecordingSample) -> int:
    """Return a checksum of the recording's values."""
    checksum = 0
    for values in (sample.series, sample.image):
        if values is not None:
            checksum = zlib.crc32(np.ascontiguousarray(values).data, checksum)
    return checksum


def _without_other(change: Callable[[RecordingSample], RecordingSample]) -> Corruption:
    """Wrap a function of one recording as a corruption."""
    return lambda sample, other: change(sample)


# family to (name, strength on the family's axis, function)
_Level = tuple[str, float, Corruption]
_BY_FAMILY: dict[str, Sequence[_Level]] = {
    "phase shift": [
        (f"phase shift {x:+d}°", x, _without_other(partial(shift_phase, degrees=x)))
        for x in PHASES_DEG
    ],
    "gain": [(f"gain {x:g}", x, _without_other(partial(amplify, gain=x))) for x in GAINS],
    "noise": [
        (f"noise at {x} dB", x, _without_other(partial(add_noise, snr_db=x))) for x in NOISES_DB
    ],
    "length": [
        (f"shortened to {x} s", x, _without_other(partial(shorten, seconds=x))) for x in LENGTHS_S
    ],
    "picture": [
        *(
            (f"picture: {x}", n, _without_other(partial(recolour, look=x)))
            for n, x in enumerate(LOOKS)
        ),
        (MISPAIRED, len(LOOKS), mispair),
    ],
}

CORRUPTIONS: Mapping[str, Corruption] = {
    name: change for levels in _BY_FAMILY.values() for name, _, change in levels
}
"""Name to a function of a recording and another one, which only mispairing uses."""

LEVELS: Mapping[str, tuple[str, float]] = {
    name: (family, strength)
    for family, levels in _BY_FAMILY.items()
    for name, strength, _ in levels
}
"""Name to family and strength: degrees, factor, dB, seconds; an index for pictures."""
