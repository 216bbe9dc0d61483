"""Pulse processes of partial discharge over the phase of the mains: void, surface, corona.

A recording is 20 s of 60 Hz: 1200 cycles of 128 phase bins. A process takes two random generators:
``character`` draws the properties of the defect (geometry, charge; equal for a whole session) and
``rng`` draws the events of one recording. Phase 0 is the rising zero crossing of the voltage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma, ndtr, ndtri

from chiasm.samples import FloatArray

Rng = np.random.Generator
IntArray = NDArray[np.int64]

FREQUENCY_HZ, CYCLES, BINS = 60.0, 1200, 128

# The gap is simulated in parallel chains of a few cycles. The first cycles of a chain are
# discarded, because their initial space charge is only a guess.
_PER_CHAIN, _SETTLING = 2, 2
_DECAY_EVERY = 4
_VOLTAGE_JITTER = 0.01


@dataclass(frozen=True, slots=True)
class Mains:
    """The voltage during one recording.

    Attributes:
        frequency: Hz.
        cycles: of the recording, an even number.
    """

    frequency: float = FREQUENCY_HZ
    cycles: int = CYCLES

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.cycles / self.frequency


STANDARD = Mains()


@dataclass(frozen=True, slots=True, eq=False)
class Pulses:
    """Pulses of one recording, in no particular order.

    Attributes:
        cycle: ``(n,)`` int64 from 0, the mains cycle.
        phase: ``(n,)`` float32, degrees of the voltage; values outside [0, 360) wrap around.
        charge: ``(n,)`` float32, apparent charge (IEC 60270) in recorder counts at gain 1; its
            magnitude, unless it was asked for with its sign.
    """

    cycle: IntArray
    phase: FloatArray
    charge: FloatArray

    def scaled(self, factor: float) -> Pulses:
        """Return the pulses with their charge multiplied by ``factor``."""
        return Pulses(self.cycle, self.phase, self.charge * np.float32(factor))


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """Discharge sites that share a voltage; arrays are ``(sites, 1)``, one row a site.

    Attributes:
        overvoltage: applied field over the site's inception field.
        charge: mean apparent charge, recorder counts.
        spread: coefficient of variation of the charge about the drop in field.
        ratio: charge of positive over that of negative half-cycles.
        bias: share by which inception is later in one polarity and earlier in the other.
        lag_s: mean statistical time lag at inception, seconds.
        reluctance: factor of the first lag after a polarity reversal.
        residual: share of the inception field that remains after a discharge.
        decay_s: time constant of the deposited charge, seconds.
        shift_deg: phase of the field at the site against the applied voltage, degrees.
    """

    overvoltage: FloatArray
    charge: FloatArray
    spread: FloatArray
    ratio: FloatArray
    bias: FloatArray
    lag_s: FloatArray
    reluctance: FloatArray
    residual: FloatArray
    decay_s: FloatArray
    shift_deg: FloatArray


def join_pulses(parts: Sequence[Pulses]) -> Pulses:
    """Concatenate pulses."""
    return Pulses(
        np.concatenate([part.cycle for part in parts]),
        np.concatenate([part.phase for part in parts]),
        np.concatenate([part.charge for part in parts]),
    )


def void_gap(overvoltage: float, character: Rng) -> Gap:
    """Draw a cavity in solid insulation: one to three sites, equal in both polarities."""
    sites = int(character.integers(1, 4))
    column = (sites, 1)
    weaker = 1 - character.uniform(0, 0.12, column)
    weaker[0] = 1
    return Gap(
        overvoltage=_single(overvoltage * weaker),
        charge=_single(character.uniform(40, 110) * character.uniform(0.6, 1, column)),
        spread=_single(character.uniform(0.08, 0.20, column)),
        ratio=_single(character.uniform(0.9, 1.1, column)),
        bias=_single(np.zeros(column)),
        lag_s=_single(log_uniform(character, 1e-4, 3e-3) * np.ones(column)),
        reluctance=_single(character.uniform(1.5, 4) * np.ones(column)),
        residual=_single(character.uniform(0.1, 0.5, column)),
        decay_s=_single(log_uniform(character, 5e-3, 0.3) * np.ones(column)),
        shift_deg=_single(np.zeros(column)),
    )


def surface_gap(overvoltage: float, character: Rng) -> Gap:
    """Draw a creepage path: two to five different sites, one polarity stronger than the other."""
    sites = int(character.integers(2, 6))
    column = (sites, 1)
    weaker = 1 - character.uniform(0, 0.45, column)
    weaker[0] = 1
    # The stronger polarity depends on the electrode at which the path starts.
    side = 1 if character.random() < 0.5 else -1
    ratio = character.uniform(1.4, 3)
    mean_charge = character.uniform(50, 140) / np.sqrt(ratio)
    return Gap(
        overvoltage=_single(overvoltage * weaker),
        charge=_single(mean_charge * character.uniform(0.5, 1, column)),
        spread=_single(character.uniform(0.3, 0.6) * np.ones(column)),
        ratio=_single(ratio**side * character.uniform(0.9, 1.1, column)),
        bias=_single(-side * character.uniform(0.05, 0.25) * np.ones(column)),
        lag_s=_single(np.exp(character.uniform(np.log(5e-5), np.log(8e-4), column))),
        reluctance=_single(np.ones(column)),
        residual=_single(character.uniform(0.05, 0.35, column)),
        decay_s=_single(np.exp(character.uniform(np.log(3e-3), np.log(0.1), column))),
        # A conducting layer turns the field along the path.
        shift_deg=_single(character.uniform(-25, 25, column)),
    )


def gap_discharges(gap: Gap, rng: Rng, *, mains: Mains = STANDARD, signed: bool = False) -> Pulses:
    """Simulate a gap whose field is the applied field plus that of the deposited charge.

    With e the field over the inception field, a discharge starts at rate ``e**2 / lag`` while
    ``|e| > 1`` and leaves ``residual * sign(e)``; its charge is proportional to the drop, with
    Weibull scatter. Deposited charge decays exponentially and outlives the half-cycle, so that
    discharges can start before the zero crossing. Sources: Niemeyer, IEEE TDEI 2(4), 1995; Illias,
    Chen and Lewin, J. Phys. D 44 245202, 2011 (fewer starting electrons after a reversal: the
    "rabbit ears"); Cacciari, Contin and Montanari, IEEE TDEI 2(4), 1995 (Weibull). ``signed``
    charges have the sign of the field before the discharge.
    """
    sites, chains = gap.charge.shape[0], mains.cycles // _PER_CHAIN
    shape = (sites, chains)
    step_s = 1 / (mains.frequency * BINS)
    # At the centre of each bin; the phase within the bin is drawn afterwards.
    sine = np.sin(2 * np.pi * (np.arange(BINS) + 0.5) / BINS).astype(np.float32)
    decay = np.exp(-_DECAY_EVERY * step_s / gap.decay_s).astype(np.float32)
    rate = np.broadcast_to(np.float32(step_s) / gap.lag_s, shape)
    reversal_factor = np.broadcast_to(1 / gap.reluctance, shape)
    last_sign = np.where(rng.random(shape) < 0.5, -1, 1).astype(np.float32)
    deposited = -0.5 * last_sign * rng.random(shape, dtype=np.float32)
    waiting = rng.standard_exponential(shape, dtype=np.float32)
    events: list[tuple[int, IntArray, FloatArray]] = []
    for cycle in range(_SETTLING + _PER_CHAIN):
        jitter = 1 + _VOLTAGE_JITTER * rng.standard_normal(chains, dtype=np.float32)
        applied = gap.overvoltage * jitter
        for step in range(BINS):
            if step % _DECAY_EVERY == 0:
                deposited *= decay
            field = applied * sine[step]
            field += deposited
            # Relative to the polarity's inception field; positive in the last discharge's polarity.
            over = field + gap.bias * np.abs(field)
            over *= last_sign
            active = (over > 1) + reversal_factor * (over < -1)
            over *= over
            over *= rate
            over *= active
            waiting -= over
            fired = np.flatnonzero(waiting < 0)
            if fired.size:
                before = field.reshape(-1)[fired]
                sign = np.sign(before)
                after = np.broadcast_to(gap.residual, shape).reshape(-1)[fired] * sign
                deposited.reshape(-1)[fired] += after - before
                last_sign.reshape(-1)[fired] = sign
                waiting.reshape(-1)[fired] = rng.standard_exponential(fired.size, np.float32)
                if cycle >= _SETTLING:
                    events.append((((cycle - _SETTLING) * BINS) + step, fired, before - after))
    return _pulses_of(events, gap, rng, chains=chains, signed=signed)


def _pulses_of(
    events: list[tuple[int, IntArray, FloatArray]],
    gap: Gap,
    rng: Rng,
    *,
    chains: int,
    signed: bool,
) -> Pulses:
    if not events:
        return no_pulses()
    step = np.repeat([time for time, _, _ in events], [fired.size for _, fired, _ in events])
    site, chain = np.divmod(np.concatenate([fired for _, fired, _ in events]), chains)
    drop = np.concatenate([drops for _, _, drops in events])
    share = np.abs(drop) / np.abs(drop).mean()
    polarity = np.sqrt(gap.ratio[site, 0]) ** np.sign(drop)
    # Shape of the Weibull distribution with this coefficient of variation, within two per cent.
    shape = gap.spread[site, 0] ** -1.086
    scatter = rng.standard_exponential(step.size, np.float32) ** (1 / shape) / gamma(1 + 1 / shape)
    phase = (step % BINS + rng.random(step.size, np.float32)) * (360 / BINS)
    charge = (gap.charge[site, 0] * share * polarity * scatter).astype(np.float32)
    return Pulses(
        chain * _PER_CHAIN + step // BINS,
        (phase + gap.shift_deg[site, 0]).astype(np.float32),
        charge * np.sign(drop) if signed else charge,
    )


def corona_pulses(
    overvoltage: float,
    character: Rng,
    rng: Rng,
    *,
    mains: Mains = STANDARD,
    rate: NDArray[np.float64] | None = None,
) -> Pulses:
    """Draw Trichel pulses of a point in gas: many, of nearly one charge, around one voltage peak.

    The peak is the negative one (270 degrees) for a point at high voltage, in three of four
    sessions, else the positive one (earthed point). Pulses need a voltage above inception, within
    ``arccos(1/u)`` of the peak. Above ``u = 1.5`` a few large streamers occur at the opposite
    peak. ``rate`` is that of each cycle, ``(cycles,)``; None draws one of 8 to 60. Source: CIGRE WG
    21.03, Electra 11, 1969 (recognition of discharges).
    """
    peak = 270.0 if character.random() < 0.75 else 90.0
    charge = character.uniform(15, 80)
    spread = character.uniform(0.03, 0.10)
    steady = log_uniform(character, 8, 60)
    streamers, larger = log_uniform(character, 0.03, 0.5), character.uniform(2, 8)
    of_cycles = steady if rate is None else rate
    parts = [_near_peak(peak, overvoltage, of_cycles, charge, spread, rng, mains)]
    if overvoltage > 1.5:
        opposite = (peak + 180) % 360
        parts.append(
            _near_peak(opposite, 0.75 * overvoltage, streamers, larger * charge, 0.35, rng, mains)
        )
    return join_pulses(parts)


def _near_peak(
    peak: float,
    overvoltage: float,
    rate: float | NDArray[np.float64],
    charge: float,
    spread: float,
    rng: Rng,
    mains: Mains,
) -> Pulses:
    cycle = poisson_cycles(rate, rng, mains.cycles)
    voltage = overvoltage * (1 + _VOLTAGE_JITTER * rng.standard_normal(mains.cycles))
    width = np.degrees(np.arccos(np.minimum(1 / voltage, 1)))[cycle]
    # A normal distribution, truncated at the inception angle: 2.2 standard deviations.
    bound = float(ndtr(2.2))
    offset = ndtri(rng.uniform(1 - bound, bound, cycle.size)) / 2.2
    # The charge grows slightly with the instantaneous voltage, which gives an arch.
    arch = 0.8 + 0.2 * np.cos(np.radians(width * offset))
    size = charge * arch * (1 + spread * rng.standard_normal(cycle.size))
    return Pulses(cycle, _single(peak + width * offset), _single(np.maximum(size, 0.2 * charge)))


def no_pulses() -> Pulses:
    """Return empty pulses."""
    empty = np.zeros(0, dtype=np.float32)
    return Pulses(np.zeros(0, dtype=np.int64), empty, empty)


def poisson_cycles(rate: float | NDArray[np.floating], rng: Rng, cycles: int = CYCLES) -> IntArray:
    """Draw the cycles, ascending, of independent pulses; ``rate`` per cycle, or of each cycle."""
    return np.repeat(np.arange(cycles), rng.poisson(rate, cycles))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a positive number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _single(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float32)
