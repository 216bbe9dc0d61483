"""Sensors and recorders in the field: what they make of discharges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.pulses import pattern_picture
from chiasm.diagnosis.simulator.image import ByteArray, Look, draw_prpd
from chiasm.diagnosis.simulator.physics import BINS, Mains, Pulses, Rng
from chiasm.samples import FloatArray

Polarity = Literal["unipolar", "bipolar"]
POLARITIES = get_args(Polarity)

LEVELS = 128  # of amplitude, from 0 or, with a polarity, from the most negative


@dataclass(frozen=True, slots=True)
class Sensor:
    """How a sensor answers to a current pulse; ranges are those of its specimens.

    Attributes:
        name: as in the table of recordings.
        ringing: largest half-wave of the other sign, as a share of the first.
        tail: share of the amplitude that is left in the next bin of the phase.
        scatter: standard deviation of the logarithm of the gain from pulse to pulse.
        floor: standard deviation of the floor against that of a wired sensor.
    """

    name: str
    ringing: tuple[float, float]
    tail: tuple[float, float]
    scatter: float
    floor: tuple[float, float]


SENSORS = (
    # A resonance of the screen and the ferrite in the range of megahertz; it measures a current,
    # whose sign and size follow those of the charge.
    Sensor("HFCT", (0.4, 0.95), (0.0, 0.05), 0.05, (1.0, 1.5)),
    # Modes of the tank between 0.3 and 3 GHz: oscillations without a sign, whose amplitude depends
    # on the rise of the pulse; a detector with a decay follows.
    Sensor("UHF", (0.9, 1.1), (0.0, 0.3), 0.2, (0.7, 1.2)),
    # Open antennas and capacitive couplers (TEV) receive broadcast and converters, too.
    Sensor("antenna", (0.7, 1.05), (0.0, 0.1), 0.15, (1.2, 2.5)),
)


@dataclass(frozen=True, slots=True)
class Recorder:
    """A recorder with its sensor, as one session has it.

    Attributes:
        sensor: name of the kind of sensor.
        ringing, tail, scatter: of this specimen, see ``Sensor``.
        sigma: standard deviation of the floor, counts.
        pedestal: rest level, counts.
        offset_deg: phase between the recorder's trigger and the voltage at the defect, degrees.
        gain: from charge to counts.
        persistence: cycles that its pictures show.
        look: style of its pictures; None draws as detectors do that scale themselves.
    """

    sensor: str
    ringing: float
    tail: float
    scatter: float
    sigma: float
    pedestal: float
    offset_deg: float
    gain: float
    persistence: int
    look: Look | None


def recorded_pulses(pulses: Pulses, recorder: Recorder, mains: Mains, rng: Rng) -> Pulses:
    """Return the pulses as the sensor shows them, with the phase of the recorder's trigger.

    A ringing response has two half-waves; whichever is larger at the bandwidth and the moment of
    sampling is what a recorder of extremes writes, so that part of the signs are turned over. The
    tail of a response is a second, smaller pulse.
    """
    size = pulses.charge * np.exp(recorder.scatter * rng.standard_normal(pulses.charge.size))
    other = recorder.ringing * np.exp(0.1 * rng.standard_normal(size.size))
    size = recorder.gain * size * np.where(other > 1, -other, 1.0)
    turns, phase = np.divmod(pulses.phase + recorder.offset_deg, 360)
    cycle, phase = pulses.cycle + turns.astype(np.int64), phase.astype(np.float64)
    if recorder.tail > 0:
        later, after = np.divmod(phase + 360 / BINS, 360)
        cycle = np.concatenate([cycle, cycle + later.astype(np.int64)])
        phase = np.concatenate([phase, after])
        size = np.concatenate([size, recorder.tail * size])
    return Pulses(cycle % mains.cycles, phase.astype(np.float32), size.astype(np.float32))


def held_counts(
    pulses: Pulses, recorder: Recorder, mains: Mains, rng: Rng, polarity: Polarity
) -> NDArray[np.int16]:
    """Return what the recorder writes: the extreme of each of 128 bins of every cycle.

    Args:
        pulses: of ``recorded_pulses``.
        recorder: of the session.
        mains: of the recording.
        rng: of the floor.
        polarity: ``unipolar`` holds magnitudes, ``bipolar`` the value that is farthest from rest.

    Returns:
        ``(cycles, 128)`` int16, in [0, 255], or in [-2048, 2047] with the sign.
    """
    shape = (mains.cycles, BINS)
    # The envelope of white noise is Rayleigh distributed; interference makes it breathe.
    breath = np.exp(0.1 * np.repeat(rng.standard_normal(-(-mains.cycles // 30)), 30))
    floor = recorder.sigma * np.sqrt(2 * rng.standard_exponential(shape, np.float32))
    floor *= breath[: mains.cycles, None].astype(np.float32)
    place = np.minimum((pulses.phase * (BINS / 360)).astype(np.int64), BINS - 1)
    place += pulses.cycle * BINS
    flat = floor.reshape(-1)
    if polarity == "unipolar":
        np.maximum.at(flat, place, np.abs(pulses.charge))
        return np.clip(np.rint(recorder.pedestal + floor), 0, 255).astype(np.int16)
    flat *= np.where(rng.random(flat.size) < 0.5, np.float32(-1), np.float32(1))
    order = np.argsort(np.abs(pulses.charge), kind="stable")
    place, charge = place[order], pulses.charge[order]
    extreme = flat.copy()
    extreme[place] = charge  # the largest pulse of a bin is written last
    flat = np.where(np.abs(extreme) > np.abs(flat), extreme, flat)
    return np.clip(np.rint(flat), -2048, 2047).astype(np.int16).reshape(shape)


def pattern_counts(counts: NDArray[np.int16]) -> NDArray[np.int64]:
    """Count the values by amplitude and phase, at a scale that the largest value fills.

    Args:
        counts: ``(cycles, 128)`` of ``held_counts``.

    Returns:
        ``(128, 128)``, the largest amplitude first; with a polarity, the last row is the most
        negative amplitude.
    """
    largest = max(int(np.abs(counts).max()), 1)
    low = -largest if counts.min() < 0 else 0
    level = (counts.astype(np.int64) - low) * LEVELS // (largest - low)
    row = LEVELS - 1 - np.minimum(level, LEVELS - 1)
    cells = np.bincount((row * BINS + np.arange(BINS)).ravel(), minlength=LEVELS * BINS)
    return cells.reshape(LEVELS, BINS)


def drawn_pattern(counts: NDArray[np.int16], recorder: Recorder) -> ByteArray:
    """Return the recorder's picture of its last cycles, ``(256, 256, 3)`` uint8 RGB."""
    shown = counts[-recorder.persistence :]
    if recorder.look is not None and shown.min() >= 0:
        return draw_prpd(shown.astype(np.uint8), recorder.look)
    picture: FloatArray = pattern_picture(pattern_counts(shown))
    return np.rint(255 * picture).astype(np.uint8)
