"""What can go wrong with a recording, at known strengths; for tests, never for training.

All functions are pure and deterministic: noise depends on the recording's own content, so that it
is the same in whatever order recordings come. A modality that is not there stays absent.
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
# A dot is what differs from the ground by more than its anti-aliasing does.
_GROUND = 0.06


def phase_shifted(sample: RecordingSample, degrees: float) -> RecordingSample:
    """Turn picture and series together, as if the phase reference were wrong; positive is later.

    The series moves by the nearest whole number of values, the picture's columns by just as
    much. What leaves the last cycle comes back in the first one. A sine drawn in the picture
    turns with it.
    """
    cycle, series, image = sample.samples_per_cycle, sample.series, sample.image
    half = cycle // 2
    bins = (round(degrees / 360 * cycle) + half) % cycle - half  # at most half a cycle
    turn = bins / cycle if series is not None else degrees / 360
    if series is not None:
        total = series.shape[1]
        place = np.arange(total) - bins
        # Only whole cycles go round: a cut last cycle would tear the phase.
        place[place < 0] += total // cycle * cycle
        place[place >= total] -= total // cycle * cycle
        series = series[:, place]
    if image is not None:
        image = np.roll(image, round(turn * image.shape[1]), axis=1)
    return replace(sample, series=series, image=image)


def amplified(sample: RecordingSample, gain: float) -> RecordingSample:
    """Multiply the series; the picture's scale is its recorder's and stays as it is."""
    if sample.series is None:
        return sample
    return replace(sample, series=sample.series * np.float32(gain))


def noisy(sample: RecordingSample, snr_db: float) -> RecordingSample:
    """Add white noise to series and picture, to each by its own signal-to-noise ratio.

    The signal is what stands off the quiet level: each channel's median in the series, the
    ground's colour in the picture. Amplitudes stay at or above 0, colours in [0, 1].
    """
    rng = np.random.default_rng([_fingerprint(sample), round(1000 * snr_db) % 2**32])
    ratio = 10 ** (-snr_db / 20)
    series, image = sample.series, sample.image
    if series is not None:
        quiet = np.median(series, axis=1, keepdims=True)  # (C, 1)
        strength = np.sqrt(np.square(series - quiet).mean(axis=1, keepdims=True))
        noise = rng.standard_normal(series.shape, dtype=np.float32)
        series = np.maximum(series + noise * (ratio * strength), 0, dtype=np.float32)
    if image is not None:
        strength = np.sqrt(np.square(image - ground_colour(image)).mean())
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(image + noise * (ratio * strength), 0, 1, dtype=np.float32)
    return replace(sample, series=series, image=image)


def shortened(sample: RecordingSample, seconds: float) -> RecordingSample:
    """Keep the first seconds of the series, in whole cycles, one at least.

    The picture cannot be drawn anew in its recorder's way and still shows all of the recording.
    """
    if sample.series is None:
        return sample
    cycles = max(1, round(seconds * sample.frequency))
    return replace(sample, series=sample.series[:, : cycles * sample.samples_per_cycle].copy())


def recoloured(sample: RecordingSample, look: Look) -> RecordingSample:
    """Draw the picture in other colours.

    ``"colour map"`` gives the dots the map 'cividis' by their brightness, on the same ground;
    ``"grey"`` leaves brightness alone; ``"inverted"`` turns each channel round.
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
    dots = np.abs(image - ground_colour(image)).max(axis=2) > _GROUND
    return replace(sample, image=np.where(dots[..., None], painted, image))


def mispaired(sample: RecordingSample, other: RecordingSample) -> RecordingSample:
    """Put another recording's picture beside this one's series; label and source stay."""
    return replace(sample, image=other.image)


def partners(labels: ArrayLike, *, seed: int = 0) -> list[int]:
    """For each recording the place of one of another class: whose picture it is mispaired with.

    Raises:
        DataError: all recordings are of one class.
    """
    classes = np.asarray(labels)
    chosen: list[int] = []
    rng = np.random.default_rng(seed)
    for own in classes.tolist():
        others = np.flatnonzero(classes != own)
        if not others.size:
            raise DataError(
                "All recordings are of one class; to mispair pictures another class is needed."
            )
        chosen.append(int(rng.choice(others)))
    return chosen


def _fingerprint(sample: RecordingSample) -> int:
    """A number that the recording's values decide."""
    found = 0
    for values in (sample.series, sample.image):
        if values is not None:
            found = zlib.crc32(np.ascontiguousarray(values).data, found)
    return found


def _alone(change: Callable[[RecordingSample], RecordingSample]) -> Corruption:
    """A corruption that needs no other recording."""
    return lambda sample, other: change(sample)


# family to (name, strength on the family's axis, function)
_Level = tuple[str, float, Corruption]
_BY_FAMILY: dict[str, Sequence[_Level]] = {
    "phase shift": [
        (f"phase shift {x:+d}°", x, _alone(partial(phase_shifted, degrees=x))) for x in PHASES_DEG
    ],
    "gain": [(f"gain {x:g}", x, _alone(partial(amplified, gain=x))) for x in GAINS],
    "noise": [(f"noise at {x} dB", x, _alone(partial(noisy, snr_db=x))) for x in NOISES_DB],
    "length": [
        (f"shortened to {x} s", x, _alone(partial(shortened, seconds=x))) for x in LENGTHS_S
    ],
    "picture": [
        *((f"picture: {x}", n, _alone(partial(recoloured, look=x))) for n, x in enumerate(LOOKS)),
        (MISPAIRED, len(LOOKS), mispaired),
    ],
}

CORRUPTIONS: Mapping[str, Corruption] = {
    name: change for levels in _BY_FAMILY.values() for name, _, change in levels
}
"""Name to a function of a recording and another one, which only mispairing looks at."""

LEVELS: Mapping[str, tuple[str, float]] = {
    name: (family, strength)
    for family, levels in _BY_FAMILY.items()
    for name, strength, _ in levels
}
"""Name to family and strength: degrees, factor, dB, seconds; a mere number for pictures."""
