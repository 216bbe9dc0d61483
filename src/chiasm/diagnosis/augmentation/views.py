"""Random views of a recording that preserve its class: phase and polarity are respected.

Views are never flipped, rotated, stretched or rolled far: 180 degrees turn a corona at the
high-voltage point into one at the earthed point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.recorders import Counts
from chiasm.diagnosis.preparation.scales import finished, quiet_level, scaled
from chiasm.diagnosis.preparation.scales import ground_colour as ground_colour
from chiasm.samples import FloatArray

# Values of the table of noise, 8 MB.
_TABLE_SIZE = 1 << 21


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """The ranges of the random changes of a view.

    Attributes:
        phase_sigma_deg, phase_cap_deg: of the roll that picture and series share.
        phase_unknown: the recordings have no phase reference: roll by any angle.
        gain_sigma: of the logarithm of the gain that picture and series share.
        picture_gain: whether pictures are scaled with the gain, upwards from their lower edge,
            which is amplitude 0. Must be off for instruments that draw 0 elsewhere.
        image_noise: standard deviation, relative to [0, 1].
        dots: minimum and maximum share of pixels that take the colour of the ground.
        brightness: maximum relative change.
        series_noise: standard deviation as a share of the scale's ``high``.
        masks, mask_seconds: maximum number per 20 s, and length; they show the background.
        pulses: share of the values that are replaced by the background.
        shortest: seconds; above 0, half of the batches have series of random length from here to
            the whole one, so that short recordings of a class are known, too.
    """

    phase_sigma_deg: float = 2.0
    phase_cap_deg: float = 4.0
    phase_unknown: bool = False
    gain_sigma: float = 0.1
    picture_gain: bool = True
    image_noise: float = 0.02
    dots: tuple[float, float] = (0.05, 0.10)
    brightness: float = 0.1
    series_noise: float = 0.01
    masks: int = 4
    mask_seconds: float = 0.5
    pulses: float = 0.05
    shortest: float = 0.0


def view_rng(seed: int, epoch: int, index: int, view: int) -> np.random.Generator:
    """Return the generator of one view; equal numbers give equal generators."""
    return np.random.default_rng([seed, epoch, index, view])


def strong_views(settings: ViewSettings) -> ViewSettings:
    """Return settings with a wider gain, up to half of the dots and 30 % of the values removed.

    With few sessions, a network otherwise learns the sessions. The phase settings stay. Not for
    series that are counted against their noise floor: without 30 % of the values, their excess
    over the floor is another one than that of the recordings that are judged later.
    """
    return replace(strong_pictures(settings), gain_sigma=0.3, pulses=0.3)


def strong_pictures(settings: ViewSettings) -> ViewSettings:
    """Return settings with up to half of the picture's dots removed."""
    return replace(settings, dots=(0.05, 0.5))


@dataclass(frozen=True, slots=True)
class SharedChange:
    """A change that picture and series of a view share.

    Attributes:
        shift_deg: roll, degrees; positive is later in the cycle.
        gain: of amplitudes.
    """

    shift_deg: float = 0.0
    gain: float = 1.0


def shared_change(settings: ViewSettings, rng: np.random.Generator) -> SharedChange:
    """Draw a change for picture and series of a view."""
    gain = float(np.exp(settings.gain_sigma * rng.standard_normal()))
    if settings.phase_unknown:
        return SharedChange(float(rng.uniform(-180, 180)), gain)
    cap = settings.phase_cap_deg
    shift = np.clip(settings.phase_sigma_deg * rng.standard_normal(), -cap, cap)
    return SharedChange(float(shift), gain)


def image_view(
    image: FloatArray, change: SharedChange, settings: ViewSettings, rng: np.random.Generator
) -> FloatArray:
    """Return a view ``(H, W, 3)`` of a picture in [0, 1] whose columns are 0 to 360 degrees."""
    height, width = image.shape[:2]
    ground = ground_colour(image)
    view = np.roll(image, round(change.shift_deg / 360 * width), axis=1)  # always a copy
    if settings.picture_gain and change.gain != 1:
        stretch = np.array([[1, 0, 0], [0, change.gain, height * (1 - change.gain)]])
        warped = cv2.warpAffine(
            view,
            stretch,
            (width, height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=ground.tolist(),
        )
        view = np.asarray(warped, np.float32)
    share = rng.uniform(*settings.dots)
    removed = rng.integers(height * width, size=round(share * height * width))
    view.reshape(-1, 3)[removed] = ground
    view *= np.float32(1 + rng.uniform(-settings.brightness, settings.brightness))
    view += np.float32(settings.image_noise) * noise(view.shape, rng)
    return np.clip(view, 0, 1, out=view)


def series_view(
    counts: Counts,
    change: SharedChange,
    settings: ViewSettings,
    rng: np.random.Generator,
    *,
    form: RecordingForm,
    frequency: float,
    longest: int | None = None,
) -> FloatArray:
    """Return a view ``(C, L)`` of a series ``(C, T)`` of counts, as the network takes it.

    The view is a run of whole cycles that begins at any cycle and wraps around at the end; it is
    rolled by the phase shift, to the nearest value. With ``longest``, it is that of a recording
    with at most so many values.
    """
    per_cycle, scale = form.samples_per_cycle, form.series
    total = counts.shape[1] // per_cycle * per_cycle or counts.shape[1]
    length = form.window_length(min(total, longest or total), frequency=frequency)
    a_second = per_cycle * frequency
    cycle = int(rng.integers(max(1, total // per_cycle)))
    begin = (cycle * per_cycle - round(change.shift_deg / 360 * per_cycle)) % total
    run = counts[:, begin : min(begin + length, total)]
    if run.shape[1] < length:
        run = np.concatenate([run, counts[:, : length - run.shape[1]]], axis=1)
    view = scaled(run, scale, gain=change.gain)
    background = quiet_level(view)
    removed = rng.integers(length, size=round(settings.pulses * length))
    view[:, removed] = background
    widest = settings.mask_seconds * a_second
    # As many per second as in the recording, but at least one is possible in a short view.
    most = min(settings.masks, max(1, round(settings.masks * length / a_second / 20)))
    for _ in range(int(rng.integers(most + 1))):
        width = min(round(widest * rng.random()), length // 4)
        begin = int(rng.integers(length - width + 1))
        view[:, begin : begin + width] = background
    view += np.float32(settings.series_noise * scale.high / scale.full) * noise(view.shape, rng)
    return finished(view, scale)


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Return standard normal noise: a slice of a table at a random offset, or drawn if larger.

    Drawing all noise took a fifth of the training time.
    """
    count = math.prod(shape)
    table = _noise_table()
    if 2 * count > len(table):
        return rng.standard_normal(shape, dtype=np.float32)
    offset = int(rng.integers(len(table) - count))
    return table[offset : offset + count].reshape(shape)


@cache
def _noise_table() -> FloatArray:
    return np.random.default_rng(0).standard_normal(_TABLE_SIZE, dtype=np.float32)


def drop_modality(
    modalities: tuple[str, ...], probability: float, rng: np.random.Generator
) -> str | None:
    """Draw the modality that is removed from a batch, or None; never the only one."""
    if len(modalities) < 2 or rng.random() >= probability:
        return None
    return modalities[int(rng.integers(len(modalities)))]
