"""Sessions of simulated discharge recordings: their equipment, time and defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.simulator.image import PALETTES, Look
from chiasm.diagnosis.simulator.physics import (
    CYCLES,
    STANDARD,
    Mains,
    Pulses,
    Rng,
    log_uniform,
    poisson_cycles,
)
from chiasm.errors import ConfigurationError

Tier = Literal["easy", "hard"]

# A class's position is its label, as in ``label.PD_type``.
CLASSES = ("normal", "noise", "surface", "corona", "void")
TIERS = get_args(Tier)

_FIRST_DAY = datetime(2023, 1, 2)

# Recorders adapt their range to the signal; without this the charge alone would reveal the class.
_RANGE = {"normal": 1.0, "noise": 1.0, "surface": 0.9, "corona": 1.5, "void": 1.1}

# Seconds between the starts of consecutive recordings.
_INTERVAL_S = 25

MAXIMUM_PER_SESSION = 1000


@dataclass(frozen=True, slots=True)
class Equipment:
    """A kind of equipment, and the properties of its recordings.

    Attributes:
        name, insulator, insulator_name, maker, volts, amperes: as in the JSON file.
        gain: relative strength of its discharges at the sensor.
        pedestal: rest level of the recorder, counts.
        interference: minimum number of impulses per cycle from neighbouring equipment.
    """

    name: str
    insulator: str
    insulator_name: str
    maker: str
    volts: int
    amperes: int
    gain: float
    pedestal: float
    interference: float


EQUIPMENT = (
    Equipment("TFR-CV", "solid", "XLPE", "maker-A", 6600, 300, 1.00, 18, 0.004),
    Equipment("CNCV-W", "solid", "XLPE", "maker-B", 22900, 400, 0.85, 24, 0.008),
    Equipment("ACSR-OC", "solid", "XLPE", "maker-C", 22900, 250, 1.15, 28, 0.012),
    Equipment("TR-OIL", "liquid", "mineral-oil", "maker-D", 22900, 100, 0.75, 14, 0.006),
    Equipment("TR-PAD", "liquid", "vegetable-oil", "maker-D", 22900, 75, 0.80, 16, 0.010),
    Equipment("TR-MOLD", "solid", "epoxy", "maker-E", 22900, 50, 1.10, 20, 0.009),
    Equipment("SWGR-7.2kV", "gas", "air", "maker-F", 7200, 630, 1.05, 12, 0.010),
    Equipment("SWGR-22.9kV", "gas", "air", "maker-F", 22900, 630, 0.95, 16, 0.009),
    Equipment("GIS-25.8kV", "gas", "SF6", "maker-G", 25800, 600, 0.90, 10, 0.003),
)


@dataclass(frozen=True, slots=True)
class Latents:
    """The latent variables of a session, shared by its recordings.

    Attributes:
        overvoltage: voltage over the defect's inception voltage.
        gain: from charge to recorder counts.
        interference: stray impulses per cycle.
        sigma: of the noise floor, counts.
        pedestal: rest level under the floor, counts.
        offset_deg: phase between the recorder's trigger and the voltage at the defect, degrees.
        drift_hz: deviation of the mains from 60 Hz, which the trigger follows with a delay.
        equipment: kind of equipment.
        sensor: ``"HFCT"`` or ``"UHF"``.
        clearance_mm: distance of the sensor.
        look: style of the pictures.
        secondary: further active sources (hard tier): class and relative strength.
        character: seed of the defect.
    """

    overvoltage: float
    gain: float
    interference: float
    sigma: float
    pedestal: float
    offset_deg: float
    drift_hz: float
    equipment: Equipment
    sensor: str
    clearance_mm: int
    look: Look
    secondary: tuple[tuple[str, float], ...]
    character: int


def draw_latents(kind: str, rng: Rng, *, tier: Tier = "easy", equipment: int = 0) -> Latents:
    """Draw a session of class ``kind`` at ``EQUIPMENT[equipment]``.

    The hard tier is nearer inception, noisier and weaker; its phase reference may be another
    conductor's (multiples of 60 degrees), its pictures come from several instruments, and some
    sessions have interference or a weaker second defect besides the labelled one. Raises
    ``ConfigurationError`` for an unknown class or tier.
    """
    check_choice("class", kind, CLASSES)
    check_choice("tier", tier, TIERS)
    hard = tier == "hard"
    device = EQUIPMENT[equipment % len(EQUIPMENT)]
    sensor = "UHF" if rng.random() < (0.8 if device.insulator == "gas" else 0.3) else "HFCT"
    offset = rng.normal(0, 4)
    if hard:
        offset += rng.choice([0, 60, 120, 180, 240, 300])
    sigma = rng.uniform(6, 14) if hard else rng.uniform(1, 6)
    gain = _RANGE[kind] * device.gain * np.exp(0.35 * rng.standard_normal())
    look = Look()
    if hard:
        # Weak, but not entirely below the noise floor, where the label would be undefined.
        gain = max(0.45 * gain, 0.04 * sigma * _RANGE[kind])
        look = Look(
            palette=PALETTES[int(rng.integers(len(PALETTES)))],
            dark=bool(rng.random() < 0.4),
            top=int(rng.choice([127, 255, 511])),
            sine=bool(rng.random() < 0.6),
            grid=bool(rng.random() < 0.6),
        )
    return Latents(
        overvoltage=rng.uniform(1.01, 1.25) if hard else rng.uniform(1.08, 2.0),
        gain=float(gain),
        interference=device.interference * (1.0 if kind == "normal" else rng.uniform(1, 10) ** 2),
        sigma=sigma,
        pedestal=float(device.pedestal + rng.uniform(-6, 10)),
        offset_deg=float(offset),
        drift_hz=rng.uniform(-0.05, 0.05),
        equipment=device,
        sensor=sensor,
        clearance_mm=int(rng.choice([100, 300, 500, 1000])),
        look=look,
        secondary=_secondary(kind, rng) if hard else (),
        character=int(rng.integers(2**62)),
    )


def _secondary(kind: str, rng: Rng) -> tuple[tuple[str, float], ...]:
    sources = []
    if kind not in ("normal", "noise") and rng.random() < 0.15:
        others = [other for other in ("surface", "corona", "void") if other != kind]
        sources.append((others[int(rng.integers(len(others)))], rng.uniform(0.3, 0.6)))
    if kind not in ("normal", "noise") and rng.random() < 0.4:
        sources.append(("noise", rng.uniform(0.3, 0.8)))
    return tuple(sources)


@dataclass(frozen=True, slots=True)
class Session:
    """One visit to one unit of equipment; its recordings must not be divided between splits.

    Attributes:
        kind: its class.
        latents: latent variables of its recordings.
        unit: number of the unit among those of the kind of equipment.
        start: of its first recording; no other session has the same day.
        temperature_c, humidity: of the air at the start, degrees Celsius and per cent.
    """

    kind: str
    latents: Latents
    unit: int
    start: datetime
    temperature_c: float
    humidity: float

    @property
    def equipment_id(self) -> str:
        """Name of the unit; with the day of recording it names the session."""
        return f"{self.latents.equipment.name}-{self.unit:03d}"

    def recording_start(self, number: int) -> datetime:
        """Return the start of recording ``number`` of the session."""
        return self.start + timedelta(seconds=_INTERVAL_S * number)


def plan_session(
    number: int, sessions: int, *, tier: Tier, seed: int, classes: Sequence[str] = CLASSES
) -> Session:
    """Draw session ``number`` of ``sessions``; equal arguments give equal sessions.

    Sessions cycle through the classes, and each class through all kinds of equipment. Days are
    shuffled, so that neither the date nor its order reveals the class.
    """
    kind = classes[number % len(classes)]
    rng = np.random.default_rng([seed, 0, number])
    # The classes start with different equipment, so that few sessions also mix both.
    equipment = number // len(classes) + 2 * (number % len(classes))
    day = int(np.random.default_rng([seed, 1]).permutation(sessions)[number])
    return Session(
        kind=kind,
        latents=draw_latents(kind, rng, tier=tier, equipment=equipment),
        unit=int(rng.integers(1, 100)),
        start=_FIRST_DAY
        + timedelta(days=day, hours=int(rng.integers(8, 17)), seconds=int(rng.integers(600))),
        temperature_c=rng.uniform(5, 32),
        humidity=rng.uniform(25, 80),
    )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigurationError(
            f"'{value}' is no {name} of the simulator; choose from {', '.join(choices)}."
        )


NOISES = ("uniform", "locked", "asynchronous", "bursts")


def noise_pulses(
    character: Rng, rng: Rng, variety: str | None = None, *, mains: Mains = STANDARD
) -> Pulses:
    """Draw interference that is no discharge; ``variety`` is one of ``NOISES``, None draws it.

    Uniform in phase; locked to the mains, as of converters (2, 6 or 12 sharp lines a cycle);
    asynchronous (a switched supply at 90-900 Hz, which drifts through the phase); or bursts.
    """
    drawn_variety = NOISES[int(character.integers(len(NOISES)))]
    charge: float | NDArray[np.float64] = log_uniform(character, 20, 120)
    rate = log_uniform(character, 1, 25)
    tail = character.uniform(0.15, 0.6)
    start, jitter = character.uniform(0, 360), character.uniform(0.3, 2.0)
    lines = int(character.choice([2, 6, 12]))
    levels = character.uniform(0.6, 1.2, 12)
    pulses_hz = log_uniform(character, 90, 900)
    variety = drawn_variety if variety is None else variety
    phase: NDArray[np.floating]
    if variety == "uniform":
        cycle = poisson_cycles(rate, rng, mains.cycles)
        phase = rng.uniform(0, 360, cycle.size)
    elif variety == "locked":
        cycle, line = np.divmod(np.arange(mains.cycles * lines), lines)
        fired = rng.random(cycle.size) < 0.9
        cycle, line = cycle[fired], line[fired]
        phase = start + 360 / lines * line + jitter * rng.standard_normal(cycle.size)
        charge, tail = charge * levels[line], 0.4 * tail
    elif variety == "asynchronous":
        pulses_hz *= 1 + 0.01 * rng.standard_normal()
        turns = np.arange(int(mains.cycles / mains.frequency * pulses_hz)) * (
            mains.frequency / pulses_hz
        )
        turns += rng.random() + 0.002 * rng.standard_normal(turns.size)
        cycle = np.clip(turns.astype(np.int64), 0, mains.cycles - 1)
        phase, tail = turns % 1 * 360, 0.4 * tail
    else:
        duration = character.uniform(0.1, 1.0)
        pulses_per_burst = int(character.integers(10, 60))
        begin = rng.uniform(
            0, mains.cycles, max(1, rng.poisson(rate * mains.cycles / pulses_per_burst))
        )
        offsets = duration * rng.random(begin.size * pulses_per_burst)
        times = (np.repeat(begin, pulses_per_burst) + offsets) % mains.cycles
        cycle = times.astype(np.int64)
        phase = times % 1 * 360
    size = charge * np.exp(tail * rng.standard_normal(cycle.size))
    return Pulses(cycle, phase.astype(np.float32), size.astype(np.float32))


def stray_pulses(rate: float, charge: float, rng: Rng, cycles: int = CYCLES) -> Pulses:
    """Draw rare impulses from other sources, ``rate`` per cycle, uniform in phase."""
    cycle = poisson_cycles(rate, rng, cycles)
    size = charge * np.exp(0.6 * rng.standard_normal(cycle.size))
    phase = rng.uniform(0, 360, cycle.size)
    return Pulses(cycle, phase.astype(np.float32), size.astype(np.float32))
