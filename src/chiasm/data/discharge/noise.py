"""Pulses that are no discharge: switched converters, bursts and strays."""

from __future__ import annotations

import numpy as np

from chiasm.data.discharge.physics import (
    CYCLES,
    FREQUENCY_HZ,
    Pulses,
    Rng,
    log_uniform,
    poisson_cycles,
)

NOISES = ("uniform", "locked", "asynchronous", "bursts")


def noise_pulses(character: Rng, rng: Rng, variety: str | None = None) -> Pulses:
    """Interference that is no discharge; ``variety`` is one of ``NOISES``, drawn where None.

    Uniform in phase; locked to the mains as converters are (2, 6 or 12 sharp lines a cycle);
    asynchronous (a switched supply at 90-900 Hz, which slides through the phase); or bursts.
    """
    drawn = NOISES[int(character.integers(len(NOISES)))]
    charge = log_uniform(character, 20, 120)
    rate = log_uniform(character, 1, 25)
    tail = character.uniform(0.15, 0.6)
    start, jitter = character.uniform(0, 360), character.uniform(0.3, 2.0)
    lines = int(character.choice([2, 6, 12]))
    levels = character.uniform(0.6, 1.2, 12)
    pulses_hz = log_uniform(character, 90, 900)
    variety = drawn if variety is None else variety
    if variety == "uniform":
        cycle = poisson_cycles(rate, rng)
        phase = rng.uniform(0, 360, cycle.size)
    elif variety == "locked":
        cycle, line = np.divmod(np.arange(CYCLES * lines), lines)
        fires = rng.random(cycle.size) < 0.9
        cycle, line = cycle[fires], line[fires]
        phase = start + 360 / lines * line + jitter * rng.standard_normal(cycle.size)
        charge, tail = charge * levels[line], 0.4 * tail
    elif variety == "asynchronous":
        pulses_hz *= 1 + 0.01 * rng.standard_normal()
        turns = np.arange(int(CYCLES / FREQUENCY_HZ * pulses_hz)) * (FREQUENCY_HZ / pulses_hz)
        turns += rng.random() + 0.002 * rng.standard_normal(turns.size)
        cycle = np.clip(turns.astype(np.int64), 0, CYCLES - 1)
        phase, tail = turns % 1 * 360, 0.4 * tail
    else:
        duration = character.uniform(0.1, 1.0)
        each = int(character.integers(10, 60))
        begin = rng.uniform(0, CYCLES, max(1, rng.poisson(rate * CYCLES / each)))
        turns = (np.repeat(begin, each) + duration * rng.random(begin.size * each)) % CYCLES
        cycle = turns.astype(np.int64)
        phase = turns % 1 * 360
    size = charge * np.exp(tail * rng.standard_normal(cycle.size))
    return Pulses(cycle, phase.astype(np.float32), size.astype(np.float32))


def stray_pulses(rate: float, charge: float, rng: Rng) -> Pulses:
    """Rare impulses from elsewhere, ``rate`` a cycle, anywhere in phase, of any size."""
    cycle = poisson_cycles(rate, rng)
    size = charge * np.exp(0.6 * rng.standard_normal(cycle.size))
    phase = rng.uniform(0, 360, cycle.size)
    return Pulses(cycle, phase.astype(np.float32), size.astype(np.float32))
