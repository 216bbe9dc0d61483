"""Sampled waveforms of a few mains cycles: the sensor's ringing answer, among interference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.simulator.field_recorder import Recorder
from chiasm.diagnosis.simulator.physics import Mains, Pulses, Rng
from chiasm.samples import FloatArray

# Samples of a response that are computed; the slowest has decayed to a hundredth by then.
_LONGEST = 24
_LARGEST = 2047  # counts, of 12 bits with a sign


def sampled_waveform(
    pulses: Pulses, recorder: Recorder, mains: Mains, rate: float, *, character: Rng, rng: Rng
) -> NDArray[np.int16]:
    """Return the samples of one recording, ``(mains.cycles * rate / mains.frequency,)`` counts.

    A pulse is far shorter than a sample; what is seen is the answer of sensor and filter, a damped
    oscillation (HFCT, antenna; IEC TS 62478) or the decay of a detector (UHF). Between pulses there
    are white noise, modulated carriers and the bursts of converters, which repeat with the mains.

    Args:
        pulses: with signed charges.
        recorder: of the session.
        mains: of the recording.
        rate: samples a second.
        character: of the session: resonance, carriers and bursts.
        rng: of the recording.
    """
    total = round(mains.seconds * rate)
    decay = character.uniform(0.5, 4)  # samples
    turn = 2 * np.pi * character.uniform(0.12, 0.45)  # radians a sample
    values = interference(total, recorder.sigma, rate / mains.frequency, character, rng)
    turns = pulses.cycle + (pulses.phase + recorder.offset_deg) / 360
    place = np.mod(turns / mains.cycles, 1.0) * total
    size = pulses.charge * recorder.gain
    size = size * np.exp(recorder.scatter * rng.standard_normal(size.size))
    first = np.ceil(place).astype(np.int64)
    for step in range(_LONGEST):
        since = first - place + step
        answer = np.exp(-since / decay)
        # A detector has no sign; what rings has both.
        answer = (
            np.abs(size) * answer
            if recorder.sensor == "UHF"
            else size * answer * np.cos(turn * since)
        )
        np.add.at(values, (first + step) % total, answer)
    rest = 0.0 if recorder.sensor != "UHF" else recorder.pedestal
    return np.clip(np.rint(values + rest), -_LARGEST - 1, _LARGEST).astype(np.int16)


def interference(
    total: int, sigma: float, per_cycle: float, character: Rng, rng: Rng
) -> NDArray[np.float64]:
    """Return what a sensor shows without discharges: noise, carriers and converters' bursts.

    Args:
        total: samples.
        sigma: standard deviation of the white noise, counts.
        per_cycle: samples of a mains cycle.
        character: draws the frequencies and places of the session.
        rng: draws noise, phases and modulation.
    """
    values = sigma * rng.standard_normal(total)
    time = np.arange(total)
    for _ in range(int(character.integers(0, 8))):
        turn = 2 * np.pi * character.uniform(0.005, 0.45)
        height = sigma * character.uniform(0.3, 3.0)
        envelope = _slow(total, int(per_cycle / character.uniform(3, 30)), rng)
        values += height * envelope * np.cos(turn * time + rng.uniform(0, 2 * np.pi))
    for _ in range(int(character.integers(0, 3))):
        turn = 2 * np.pi * character.uniform(0.005, 0.3)
        height, length = sigma * character.uniform(3, 15), per_cycle * character.uniform(0.005, 0.1)
        begin = character.uniform(0, per_cycle)
        since = np.mod(time - begin - per_cycle * 0.002 * rng.standard_normal(), per_cycle)
        burst = np.exp(-since / length) * np.cos(turn * since)
        values += height * np.exp(0.2 * rng.standard_normal()) * burst
    return values


def _slow(total: int, step: int, rng: Rng) -> FloatArray:
    """Return positive values that change over ``step`` samples."""
    knots = np.exp(0.5 * rng.standard_normal(total // max(step, 1) + 2))
    return np.interp(np.arange(total) / max(step, 1), np.arange(knots.size), knots).astype(
        np.float32
    )
