"""Discharges as recorders meet them in the field: two more kinds of defect, and unsteady rates.

The processes of the other tiers fire evenly. Real sources come and go: inception varies with
humidity, surface charge and the gas in a cavity, so that rates differ several times between seconds
(Bartnikas, IEEE TDEI 9(5), 2002). All charges are signed, as the voltage is at the discharge.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.simulator.physics import (
    Gap,
    Mains,
    Pulses,
    Rng,
    corona_pulses,
    gap_discharges,
    log_uniform,
    no_pulses,
    poisson_cycles,
    surface_gap,
    void_gap,
)
from chiasm.diagnosis.simulator.sessions import noise_pulses

# Share of sessions of a kind whose discharges come and go; corona and particles do by themselves.
_UNSTEADY = {"void": 0.6, "surface": 0.6, "floating": 0.2}
_CROWDED = 0.4  # share of the cavities and surfaces with many sites
_HEAVY = 3.0  # largest factor of the scatter of charges on a surface


def field_pulses(kind: str, overvoltage: float, character: Rng, rng: Rng, mains: Mains) -> Pulses:
    """Draw the pulses of one recording of a kind, with signed charges; a normal one has none."""
    if kind == "normal":
        return no_pulses()
    if kind == "noise":
        pulses = noise_pulses(character, rng, mains=mains)
        return _signed(pulses, np.where(rng.random(pulses.charge.size) < 0.5, -1.0, 1.0))
    if kind == "particle":
        return particle_pulses(character, rng, mains)
    if kind == "corona":
        return unsteady_corona_pulses(overvoltage, character, rng, mains)
    unsteady = character.random() < _UNSTEADY[kind]
    gap = _gap(kind, overvoltage, character)
    pulses = gap_discharges(gap, rng, mains=mains, signed=True)
    return _thinned(pulses, activity(rng, mains, deviation=0.85), rng) if unsteady else pulses


def _gap(kind: str, overvoltage: float, character: Rng) -> Gap:
    if kind == "floating":
        return floating_gap(overvoltage, character)
    crowded = character.random() < _CROWDED
    gap = (void_gap if kind == "void" else surface_gap)(overvoltage, character)
    if kind == "surface":
        spread = np.float32(character.uniform(1, _HEAVY)) * gap.spread
        gap = replace(gap, spread=np.minimum(spread, 1.5))
    return crowded_gap(gap, overvoltage, character) if crowded else gap


def activity(rng: Rng, mains: Mains, *, deviation: float) -> NDArray[np.float64]:
    """Draw the relative activity of a source in each cycle, ``(cycles,)`` with a mean of about 1.

    The logarithm is a first-order autoregression from second to second. ``deviation`` is its
    standard deviation: 0.83 is a coefficient of variation of 1.
    """
    seconds = int(np.ceil(mains.seconds)) + 1
    steps = rng.standard_normal(seconds)
    level = np.empty(seconds)
    level[0] = steps[0]
    for second in range(1, seconds):
        level[second] = 0.5 * level[second - 1] + np.sqrt(0.75) * steps[second]
    begins = np.arange(mains.cycles) / mains.frequency
    return np.exp(deviation * level[begins.astype(np.int64)] - deviation**2 / 2)


def _thinned(pulses: Pulses, level: NDArray[np.float64], rng: Rng) -> Pulses:
    """Return those pulses that happen at an activity by cycle; at its largest, all do."""
    kept = rng.random(pulses.cycle.size) < (level / level.max())[pulses.cycle]
    return Pulses(pulses.cycle[kept], pulses.phase[kept], pulses.charge[kept])


def floating_gap(overvoltage: float, character: Rng) -> Gap:
    """Draw a gap between a floating electrode and its neighbour.

    The electrode's potential follows the voltage by its capacitances until the gap breaks down,
    always at one voltage, so that every discharge moves one charge: two clusters of nearly one
    amplitude and opposite polarity on the rising flanks, repeated in every half-cycle. Metal keeps
    the charge until the next breakdown, and there are always electrons to start it. Sources:
    Schichler et al., Risk assessment on defects in GIS based on PD diagnostics, IEEE TDEI 20(6),
    2013; CIGRE TB 226, Knowledge rules for partial discharge diagnosis in service, 2003.
    """
    single = np.ones((1, 1), dtype=np.float32)
    return Gap(
        overvoltage=overvoltage * single,
        charge=character.uniform(70, 160) * single,
        spread=character.uniform(0.02, 0.06) * single,
        ratio=character.uniform(0.95, 1.05) * single,
        bias=0 * single,
        lag_s=np.float32(log_uniform(character, 2e-5, 2e-4)) * single,
        reluctance=single,
        residual=character.uniform(0.0, 0.4) * single,
        decay_s=1e3 * single,
        shift_deg=0 * single,
    )


def crowded_gap(base: Gap, overvoltage: float, character: Rng) -> Gap:
    """Draw a gap of many small sites like those of ``base``, far above their inception.

    A wet or polluted surface, or insulation full of cavities: most phases have a discharge, whose
    charge grows with the voltage above inception, so that the pattern is an arch. Such sources lift
    whatever takes the median of the values for the noise floor (measured on real recordings:
    five-fold).
    """
    column = (int(character.integers(8, 33)), 1)
    sites = character.integers(0, base.charge.shape[0], column[0])
    excess = character.uniform(1.3, 5) * character.uniform(0.8, 1.2, column)
    return Gap(
        overvoltage=(overvoltage * excess).astype(np.float32),
        charge=np.float32(character.uniform(0.2, 0.6)) * base.charge[sites],
        spread=base.spread[sites],
        ratio=base.ratio[sites],
        bias=base.bias[sites],
        lag_s=np.float32(log_uniform(character, 1e-4, 2e-3)) * np.ones(column, np.float32),
        reluctance=base.reluctance[sites],
        residual=base.residual[sites],
        decay_s=base.decay_s[sites],
        shift_deg=(base.shift_deg[sites] + character.uniform(-10, 10, column)).astype(np.float32),
    )


def particle_pulses(character: Rng, rng: Rng, mains: Mains) -> Pulses:
    """Draw a free particle that hops between electrode and gas, one discharge at each contact.

    At a contact the particle takes a charge that is proportional to the voltage at that moment; it
    gives it up at the next one, milliseconds to some cycles later. So neither the phase of a pulse
    nor its amplitude is tied to the voltage at that pulse. It rests between runs of hops. Sources:
    Anis and Srivastava, Free conducting particles in compressed gas insulation, IEEE TEI 16(4),
    1981; Schichler et al., IEEE TDEI 20(6), 2013.
    """
    parts = []
    for _ in range(int(character.choice([1, 1, 1, 2, 3]))):
        flight = log_uniform(character, 0.15, 2.5)  # cycles
        moving, resting = log_uniform(character, 0.3, 6), log_uniform(character, 0.3, 6)  # seconds
        charge, spread = character.uniform(30, 120), character.uniform(0.4, 0.7)
        count = int(2 * mains.cycles / flight) + 20
        time = np.cumsum(flight * rng.standard_gamma(2, count) / 2)
        runs = rng.standard_exponential((int(2 * mains.seconds / moving) + 20, 2))
        ends = np.cumsum((runs * np.array([moving, resting])).ravel()) * mains.frequency
        # Even intervals move; the recording begins within the first one.
        moves = np.searchsorted(ends, time) % 2 == 0
        voltage = np.sin(2 * np.pi * np.concatenate([[rng.random()], time[:-1]]))
        size = charge * (0.3 + 0.7 * np.abs(voltage)) * np.exp(spread * rng.standard_normal(count))
        kept = moves & (time < mains.cycles)
        parts.append((time[kept], (size * np.sign(voltage))[kept]))
    time = np.concatenate([time for time, _ in parts])
    charges = np.concatenate([charge for _, charge in parts])
    phase = (time % 1 * 360).astype(np.float32)
    return Pulses(time.astype(np.int64), phase, charges.astype(np.float32))


def unsteady_corona_pulses(overvoltage: float, character: Rng, rng: Rng, mains: Mains) -> Pulses:
    """Draw corona as sensors at a distance see it: 0.2 to 50 pulses a cycle of many sizes.

    A share of the Trichel pulses is too small to be seen, and air that moves takes their space
    charge away, so that amplitudes vary by 0.1 to 0.35 instead of 0.03 to 0.1.
    """
    mean, spread = log_uniform(character, 0.2, 50), character.uniform(0.1, 0.35)
    level = activity(rng, mains, deviation=character.uniform(0.1, 1.0))
    rate = mean * level / level.mean()
    pulses = corona_pulses(overvoltage, character, rng, mains=mains, rate=rate)
    size = np.exp(spread * rng.standard_normal(pulses.cycle.size))
    negative = np.abs(pulses.phase % 360 - 270) < 90
    return _signed(pulses, np.where(negative, -size, size))


def background_pulses(rate: float, rng: Rng, mains: Mains) -> Pulses:
    """Draw impulses of neighbouring equipment, ``rate`` a cycle, at any phase and of any sign."""
    cycle = poisson_cycles(rate, rng, mains.cycles)
    size = 45 * np.exp(0.6 * rng.standard_normal(cycle.size))
    sign = np.where(rng.random(cycle.size) < 0.5, -1, 1)
    phase = rng.uniform(0, 360, cycle.size).astype(np.float32)
    return Pulses(cycle, phase, (sign * size).astype(np.float32))


def _signed(pulses: Pulses, factor: NDArray[np.float64]) -> Pulses:
    return Pulses(pulses.cycle, pulses.phase, (pulses.charge * factor).astype(np.float32))
