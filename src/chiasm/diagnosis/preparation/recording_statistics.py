"""What a recording is like, in numbers that need no model: pulses, phases, rhythm and noise.

A classifier keeps of a recording what tells its classes apart, and loses what would tell a further
one. Whether a recording is like those of training is therefore asked of these numbers. None depends
on gain, on the length of the recording, or on the conductor from which the phase is taken.

References:
    Gulski, Kreuger, Computer-Aided Recognition of Discharge Sources, IEEE Transactions on
    Electrical Insulation 27(1), 1992 (distributions over phase and of height).
    Mardia, Jupp, Directional Statistics, 2000 (trigonometric moments).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.network_inputs import RecordingForm, recording_arrays
from chiasm.diagnosis.preparation.recorders import Counts
from chiasm.diagnosis.preparation.relative import MAD_TO_SIGMA
from chiasm.diagnosis.preparation.scales import quiet_level
from chiasm.samples import RecordingSample

Array = NDArray[np.float64]

# Robust deviations of the floor above which a value is a pulse.
CLEAR = 5.0
# Levels within the floor, in its deviations, that discharges within the noise pass at some phases.
WITHIN = (0.5, 1.5, 3.0)
# Heights of pulses against their mean, in octaves: the edges of a histogram.
_OCTAVES = np.arange(-2.0, 2.01, 0.5)
# Edges, against the mean pulse, of small, middle and large pulses.
_THIRDS = (0.7, 1.4)
HARMONICS = 6
_WINDOWS = (0.125, 0.5, 1, 4, 16, 64)  # cycles in which pulses are counted
_BLOCKS = 20  # parts of a recording between which its rhythm is compared
_FEW = 100.0  # pulses below which a concentration is drawn towards none
_RARE = 0.05  # pairs of pulses a cycle below which their surplus is drawn towards none
_BANDS = 8  # rows of a picture that are described together
# Statistics in each part of a channel's description (see ``_channel``); the later need the mains.
_WIDTHS, _MAINS_WIDTHS = (11, 7, 5, 7, 6), (11, 9, 6)


def recording_statistics(
    sample: RecordingSample, form: RecordingForm, modality: str, *, mains: bool = True
) -> Array:
    """Return the statistics ``(D,)`` of one modality of a recording, float64.

    Args:
        sample: with that modality.
        form: how the recording becomes a network's input.
        modality: ``"image"`` or ``"series"``.
        mains: whether the series has a phase of the mains; else only what needs none is told.

    Raises:
        DataError: the modality does not fit the form.
    """
    if modality == "image":
        return picture_statistics(recording_arrays(sample, form, ("image",))["image"][0])
    assert sample.series is not None
    pulses = form.magnitudes(sample.series, sample.samples_per_cycle)
    return series_statistics(
        pulses, cycle=form.samples_per_cycle, rounding=form.series.rounding, mains=mains
    )


def series_statistics(
    magnitudes: Counts, *, cycle: int, rounding: float, mains: bool = True
) -> Array:
    """Return statistics ``(C * D,)`` of a series of upward pulses ``(C, T)``, channel by channel.

    Args:
        magnitudes: at least one cycle of values; an incomplete last cycle is left out.
        cycle: values to a mains cycle, or in a part of the series where there is no mains.
        rounding: least standard deviation of the noise floor, in the unit of the values.
        mains: whether a cycle is one of the mains.
    """
    whole = max(magnitudes.shape[1] // cycle, 1) * cycle
    rows = []
    for channel in np.asarray(magnitudes[:, :whole], np.float32):
        values = np.pad(channel, (0, whole - len(channel)), mode="edge")
        above = values - quiet_level(values[None])[0]
        floor = MAD_TO_SIGMA * float(np.median(np.abs(above[::7]))) + rounding
        cells = above.reshape(-1, cycle)
        rows.append(np.concatenate(_channel(cells, floor, mains)))
    return np.concatenate(rows)


def statistics_parts(modality: str, width: int, *, mains: bool = True) -> NDArray[np.int64]:
    """Return the part ``(D,)`` to which each of ``width`` statistics belongs.

    A part tells one thing of a recording: heights, rates, rhythm, times between pulses, bursts,
    phases, the floor, steadiness; of a picture, a band of rows. Channels share their parts.
    """
    if modality == "image":
        return np.repeat(np.arange(_BANDS), width // _BANDS)
    widths = _WIDTHS + _MAINS_WIDTHS if mains else _WIDTHS
    return np.tile(np.repeat(np.arange(len(widths)), widths), width // sum(widths))


def picture_statistics(picture: NDArray[np.float32]) -> Array:
    """Return statistics ``(D,)`` of a prepared picture ``(3, S, S)``: ink by height and phase.

    Of bands of rows, from the top: the mean, and the amplitudes of the first harmonics along them,
    which do not change when the picture is rolled.
    """
    grey = picture.astype(np.float64).mean(axis=0)
    bands = np.stack([rows.mean(axis=0) for rows in np.array_split(grey, _BANDS)])  # band x column
    waves = np.abs(np.fft.rfft(bands, axis=1))[:, : HARMONICS + 1] / bands.shape[1]
    return np.asarray(np.sqrt(waves).ravel())


def _channel(cells: NDArray[np.float32], floor: float, mains: bool) -> list[Array]:
    """Return the statistics of a channel: ``cells`` are heights above the quiet level (K, P)."""
    is_pulse = cells > CLEAR * floor
    heights = cells[is_pulse].astype(np.float64)
    mean = float(heights.mean()) if len(heights) else floor
    per_cycle = is_pulse.sum(axis=1)
    parts = [
        _heights(heights / mean),
        _rates(per_cycle, cells, mean, floor),
        _rhythm(is_pulse),
        _intervals(cells.ravel(), is_pulse),
        _bursts(is_pulse),
    ]
    if mains:
        parts += [
            _phases(cells, is_pulse, mean),
            _within_the_floor(cells, floor),
            _steadiness(is_pulse),
        ]
    return parts


def _heights(relative: Array) -> Array:
    """Return the shape of the distribution of heights relative to their mean."""
    if not len(relative):
        return np.zeros(len(_OCTAVES) - 1 + 3)
    octaves = np.log2(np.maximum(relative, 1e-9))
    inside = np.clip(octaves, _OCTAVES[0], _OCTAVES[-1] - 1e-9)
    shares = np.histogram(inside, _OCTAVES)[0] / len(octaves)
    deviation = float(octaves.std())
    third = float(((octaves - octaves.mean()) ** 3).mean()) / max(deviation, 0.1) ** 3
    weight = len(relative) / (len(relative) + 10.0)
    top = float(np.quantile(octaves, 0.99))
    return np.concatenate([np.sqrt(shares) * weight, np.array([deviation, third, top]) * weight])


def _rates(
    per_cycle: NDArray[np.int64], cells: NDArray[np.float32], mean: float, floor: float
) -> Array:
    """Return how many pulses there are, how they are spread over time, and how high they are."""
    count = len(per_cycle)
    rate = float(per_cycle.mean())
    blocks = _by_block(per_cycle[:, None])[:, 0]
    tops = cells.max(axis=1).astype(np.float64)
    return np.array(
        [
            np.log(rate + 0.5 / count + 1e-3),
            np.log(mean / floor),
            float((per_cycle == 0).mean()),
            _relative_deviation(blocks),
            np.log1p(tops.std() / max(tops.mean(), 1e-9)),
            _lagged(tops, 1),
            _lagged(tops, 2),
        ]
    )


def _rhythm(is_pulse: NDArray[np.bool_]) -> Array:
    """Return how much more often pulses follow each other than by chance.

    In the next one to three values, and at the same place of the next one and two cycles.
    """
    flat = is_pulse.ravel()
    by_phase = is_pulse.mean(axis=0)
    out = []
    for step in (1, 2, 3):
        both = float((flat[step:] & flat[:-step]).sum())
        out.append(_surplus(both, float((by_phase * np.roll(by_phase, step)).sum()), is_pulse))
    for step in (1, 2):
        both = float((is_pulse[step:] & is_pulse[:-step]).sum()) if len(is_pulse) > step else 0.0
        out.append(_surplus(both, float((by_phase**2).sum()), is_pulse))
    return np.array(out)


def _intervals(values: NDArray[np.float32], is_pulse: NDArray[np.bool_]) -> Array:
    """Return how regular the times between pulses are, and how heights follow them.

    A particle that hops takes more charge the longer it flies; a converter is regular, and not with
    the mains: lines of the spectrum of the pulses between the harmonics of the cycle.
    """
    places = np.flatnonzero(is_pulse.ravel())
    if len(places) < 8:
        return np.zeros(7)
    waits = np.diff(places).astype(np.float64)
    logs, heights = np.log(waits), np.log(np.maximum(values[places[1:]].astype(np.float64), 1e-9))
    power = np.abs(np.fft.rfft(is_pulse.ravel() - is_pulse.mean())[1:]) ** 2
    cycles = len(is_pulse)
    off = np.delete(power, np.arange(cycles - 1, len(power), cycles))  # none a whole cycle long
    off = off[cycles // 4 :]  # slower is the activity's coming and going
    return np.array(
        [
            np.median(logs) - np.log(waits.mean()),
            np.log(waits.std() / waits.mean() + 0.01),
            logs.std(),
            _lagged(logs, 1),
            _correlation(logs, heights),
            _lagged(heights, 1),
            np.log(off.max() / off.mean()) if len(off) and off.mean() > 0 else 0.0,
        ]
    )


def _bursts(is_pulse: NDArray[np.bool_]) -> Array:
    """Return the variance of counts in windows against their mean, 1 of a Poisson law, by length.

    Regular pulses have less, bursts more from the length of a burst on. What is too long for a
    recording has the last value that could be told.

    References:
        Lowen, Teich, Fractal-Based Point Processes, 2005, Section 3.4 (the Fano factor).
    """
    flat, cycle = is_pulse.ravel(), is_pulse.shape[1]
    out = [0.0]
    for length in (max(1, round(scale * cycle)) for scale in _WINDOWS):
        windows = len(flat) // length
        if windows < 8:
            out.append(out[-1])
            continue
        counts = flat[: windows * length].reshape(windows, length).sum(axis=1)
        mean, variance = float(counts.mean()), float(counts.var())
        out.append(float(np.log((variance * windows + 3) / (mean * windows + 3))))
    return np.array(out[1:])


def _correlation(first: Array, second: Array) -> float:
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 1e-9 else 0.0


def _surplus(both: float, chance: float, is_pulse: NDArray[np.bool_]) -> float:
    """Return the logarithm of pairs a cycle against those by chance; few of both are no surplus."""
    return float(np.log((both / len(is_pulse) + _RARE) / (chance + _RARE)))


def _phases(cells: NDArray[np.float32], is_pulse: NDArray[np.bool_], mean: float) -> Array:
    """Return how harmonics of small, middle and large pulses over the phase lie to each other.

    Moments that no roll of the pattern changes, and the shares of the three sizes.
    """
    cuts = [0.0, *(mean * third for third in _THIRDS), np.inf]
    counts = np.stack(
        [(is_pulse & (cells > low) & (cells <= high)).sum(axis=0) for low, high in pairwise(cuts)]
    )
    every = counts.sum(axis=0, keepdims=True)
    joined = np.concatenate([every, counts])  # (4, P)
    total = joined.sum(axis=1, keepdims=True)
    moments = np.fft.rfft(joined, axis=1)[:, 1:3] / np.sqrt(total**2 + _FEW)
    first, second = moments[:, 0], moments[:, 1]
    pairs = [
        first[0] ** 2 * np.conj(second[0]),
        first[1] * np.conj(first[3]),
        second[1] * np.conj(second[3]),
        first[3] ** 2 * np.conj(second[3]),
    ]
    shares = np.sqrt(counts.sum(axis=1) / max(float(total[0, 0]), 1.0))
    return np.concatenate([[f(p) for p in pairs for f in (np.real, np.imag)], shares])


def _within_the_floor(cells: NDArray[np.float32], floor: float) -> Array:
    """Return how often levels of the noise floor are passed, and how that varies with phase."""
    out = []
    cycles, phases = cells.shape
    for level in WITHIN:
        passed = (cells > level * floor).sum(axis=0)
        share = float(passed.mean()) / cycles
        waves = np.fft.rfft(passed)[1:3] / (cycles * phases)
        noise = share * (1 - share) / (cycles * phases)
        out += [
            np.array([np.log((share + 1e-3) / (1 - share + 1e-3))]),
            _unbiased(waves, noise) * 3,
        ]
    return np.concatenate(out)


def _steadiness(is_pulse: NDArray[np.bool_]) -> Array:
    """Return the concentration over the phase within blocks of time, mean over them.

    Against that of the whole recording it tells patterns that drift through the phase.
    """
    counts = _by_block(is_pulse)  # (B, P)
    total = counts.sum(axis=1, keepdims=True)
    few = _FEW / _BLOCKS**2
    moments = np.fft.rfft(counts, axis=1)[:, 1 : HARMONICS + 1] / np.sqrt(total**2 + few)
    squares = np.abs(moments) ** 2 - total / (total**2 + few)
    return np.sqrt(np.maximum(squares.mean(axis=0), 0))


def _unbiased(moments: NDArray[np.complex128], noise: NDArray[np.float64] | float) -> Array:
    """Return amplitudes without what chance alone contributes to their squares."""
    return np.asarray(np.sqrt(np.maximum(np.abs(moments) ** 2 - noise, 0)))


def _by_block(values: NDArray[np.generic]) -> Array:
    """Return sums ``(B, P)`` over up to 20 blocks of equal time of values ``(K, P)``."""
    blocks = min(_BLOCKS, len(values))
    kept = len(values) // blocks * blocks
    return np.asarray(
        values[:kept].reshape(blocks, -1, values.shape[1]).sum(axis=1), dtype=np.float64
    )


def _relative_deviation(counts: Array) -> float:
    """Return the coefficient of variation of counts without that of a Poisson law."""
    mean = float(counts.mean())
    if mean <= 0 or len(counts) < 2:
        return 0.0
    return float(np.sqrt(max(counts.var(ddof=1) - mean, 0.0)) / (mean + 1))


def _lagged(values: Array, lag: int) -> float:
    """Return the correlation of a row of values with itself some places later; 0 of a constant."""
    if len(values) <= lag + 1:
        return 0.0
    spread = values - values.mean()
    power = float((spread**2).sum())
    return float((spread[lag:] * spread[:-lag]).sum() / power) if power > 1e-12 else 0.0
