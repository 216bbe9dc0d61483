"""The tier ``field``: sessions with the sources, sensors and recorders of real sites."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.simulator.field_defects import background_pulses, field_pulses
from chiasm.diagnosis.simulator.field_recorder import (
    SENSORS,
    Polarity,
    Recorder,
    Sensor,
    drawn_pattern,
    held_counts,
    recorded_pulses,
)
from chiasm.diagnosis.simulator.field_waveform import sampled_waveform
from chiasm.diagnosis.simulator.image import PALETTES, ByteArray, Look
from chiasm.diagnosis.simulator.physics import (
    BINS,
    CYCLES,
    Mains,
    Pulses,
    Rng,
    join_pulses,
    log_uniform,
)
from chiasm.diagnosis.simulator.sessions import EQUIPMENT, Equipment, check_choice
from chiasm.training.progress import counted

FIELD_CLASSES = ("normal", "noise", "surface", "corona", "void", "floating", "particle")
TABLE = "recordings.csv"
FREQUENCIES = (50.0, 60.0)

_FIRST_DAY = datetime(2024, 1, 1)
_INTERVAL_S = 40
# Recorders adapt their range to the signal, so that the level does not tell the class.
_RANGE = {
    "normal": 1.0,
    "noise": 1.0,
    "surface": 1.0,
    "corona": 1.5,
    "void": 1.1,
    "floating": 0.9,
    "particle": 1.0,
}
_PERSISTENCE = (50, 100, 300, CYCLES)
# Recordings of so few cycles are triggered by a pulse: one without any is drawn again.
_TRIGGERED, _TRIES = 10, 50
_COMPRESSION = (cv2.IMWRITE_PNG_COMPRESSION, 4)


@dataclass(frozen=True, slots=True)
class FieldSession:
    """One visit to one unit of equipment.

    Attributes:
        kind: its class.
        equipment: kind of equipment.
        unit: number of the unit among those of its kind.
        start: of its first recording.
        mains: of its recordings.
        recorder: and sensor.
        overvoltage: voltage over the defect's inception voltage.
        background: impulses of other sources, a cycle.
        interference: strength of noise beside the defect, 0 without.
        character: seed of the defect.
    """

    kind: str
    equipment: Equipment
    unit: int
    start: datetime
    mains: Mains
    recorder: Recorder
    overvoltage: float
    background: float
    interference: float
    character: int

    @property
    def name(self) -> str:
        """Name of the session: unit and day."""
        return f"{self.equipment.name}-{self.unit:03d}_{self.start:%y%m%d}"


def plan_field_session(
    number: int,
    sessions: int,
    *,
    seed: int,
    classes: Sequence[str] = FIELD_CLASSES,
    frequency: float | None = None,
    cycles: int = CYCLES,
) -> FieldSession:
    """Draw session ``number`` of ``sessions``; equal arguments give equal sessions.

    Sessions cycle through the classes, and each class through all kinds of equipment. Raises
    ``ConfigurationError`` for an unknown class.
    """
    kind = classes[number % len(classes)]
    check_choice("class", kind, FIELD_CLASSES)
    rng = np.random.default_rng([seed, 10, number])
    place = number // len(classes) + 2 * (number % len(classes))
    equipment = EQUIPMENT[place % len(EQUIPMENT)]
    day = int(np.random.default_rng([seed, 11]).permutation(sessions)[number])
    drawn = float(rng.choice(FREQUENCIES))
    return FieldSession(
        kind=kind,
        equipment=equipment,
        unit=int(rng.integers(1, 1000)),
        start=_FIRST_DAY
        + timedelta(days=day, hours=int(rng.integers(7, 18)), seconds=int(rng.integers(600))),
        mains=Mains(drawn if frequency is None else frequency, cycles),
        recorder=_recorder(kind, equipment, rng, cycles),
        overvoltage=rng.uniform(1.02, 1.8),
        background=equipment.interference * max(0.0, rng.uniform(-3, 8)) ** 2,
        interference=_interference(kind, rng),
        character=int(rng.integers(2**62)),
    )


def _interference(kind: str, rng: Rng) -> float:
    present, strength = rng.random() < 0.2, rng.uniform(0.2, 0.6)
    return strength if present and kind not in ("normal", "noise") else 0.0


def _recorder(kind: str, equipment: Equipment, rng: Rng, cycles: int) -> Recorder:
    # Gas-insulated equipment has couplers for UHF; cables and coils have a wire to earth.
    chances = (0.2, 0.6, 0.2) if equipment.insulator == "gas" else (0.55, 0.15, 0.3)
    sensor: Sensor = SENSORS[int(rng.choice(len(SENSORS), p=chances))]
    sigma = log_uniform(rng, 0.8, 8) * rng.uniform(*sensor.floor)
    gain = _RANGE[kind] * equipment.gain * float(np.exp(0.4 * rng.standard_normal()))
    # A trigger by the nearest socket is another conductor's; one of its own is of any phase.
    offset = rng.normal(0, 5) + 60.0 * int(rng.integers(6))
    if rng.random() < 0.15:
        offset = rng.uniform(0, 360)
    look = None
    if rng.random() < 0.5:
        look = Look(
            palette=PALETTES[int(rng.integers(len(PALETTES)))],
            dark=bool(rng.random() < 0.4),
            top=int(rng.choice([127, 255])),
            sine=bool(rng.random() < 0.6),
            grid=bool(rng.random() < 0.6),
        )
    return Recorder(
        sensor=sensor.name,
        ringing=rng.uniform(*sensor.ringing),
        tail=rng.uniform(*sensor.tail),
        scatter=sensor.scatter * rng.uniform(0.7, 1.3),
        sigma=sigma,
        # Half of the recorders subtract their rest level.
        pedestal=max(0.0, equipment.pedestal * int(rng.integers(2)) + rng.uniform(-6, 10)),
        offset_deg=offset,
        # Weak, but not entirely below the floor, where the label would be undefined.
        gain=max(gain, 0.06 * sigma * _RANGE[kind]),
        persistence=min(int(rng.choice(_PERSISTENCE)), cycles),
        look=look,
    )


def simulate_field_recording(
    session: FieldSession, *, rng: Rng, polarity: Polarity = "unipolar"
) -> NDArray[np.int16]:
    """Simulate one recording of a session; returns counts ``(cycles, 128)``, see ``held_counts``.

    The voltage at the defect differs by 2 % between recordings.
    """
    mains, recorder = session.mains, session.recorder
    pulses = recorded_pulses(_all_pulses(session, rng), recorder, mains, rng)
    return held_counts(pulses, recorder, mains, rng, polarity)


def simulate_waveform(session: FieldSession, *, rate: float, rng: Rng) -> NDArray[np.int16]:
    """Simulate the samples of a recording at ``rate`` a second, see ``sampled_waveform``."""
    character = np.random.default_rng([session.character, 2])
    return sampled_waveform(
        _all_pulses(session, rng),
        session.recorder,
        session.mains,
        rate,
        character=character,
        rng=rng,
    )


def _all_pulses(session: FieldSession, rng: Rng) -> Pulses:
    """Return the signed pulses of the defect and of everything beside it."""
    mains = session.mains
    overvoltage = max(1.005, session.overvoltage * (1 + 0.02 * rng.standard_normal()))
    for _ in range(_TRIES if mains.cycles <= _TRIGGERED else 1):
        character = np.random.default_rng([session.character, 0])
        own = field_pulses(session.kind, overvoltage, character, rng, mains)
        if own.charge.size:
            break
    parts = [own]
    if session.interference:
        other = np.random.default_rng([session.character, 1])
        noise = field_pulses("noise", 1.0, other, rng, mains)
        parts.append(noise.scaled(session.interference))
    parts.append(background_pulses(session.background, rng, mains))
    return join_pulses(parts)


def make_field_recordings(
    folder: Path,
    *,
    count: int,
    sessions: int,
    seed: int,
    workers: int,
    classes: Sequence[str],
    frequency: float | None,
    polarity: Polarity,
    cycles: int = CYCLES,
    waveform: float | None = None,
) -> Path:
    """Write recordings of the field, as a table of series and pictures; returns the table.

    ``recordings.csv`` has a row for each: ``series/NAME.npy``, ``(cycles * 128,)`` uint8 or int16;
    ``image/NAME.png``, 256 x 256; its ``kind``, ``frequency`` and ``samples_per_cycle``, and the
    groups ``session``, ``equipment``, ``insulator`` and ``sensor``. With ``waveform``, samples a
    second, series are sampled instead, ``(values,)`` int16, and there are no pictures. A recording
    depends on the seed and its number, not on the number of ``workers``. All settings are checked
    before.
    """
    for name in ("series",) if waveform else ("series", "image"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    plan = [
        plan_field_session(
            n, sessions, seed=seed, classes=classes, frequency=frequency, cycles=cycles
        )
        for n in range(sessions)
    ]
    write = partial(
        _write, folder=folder, plan=plan, polarity=polarity, seed=seed, waveform=waveform
    )
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            size = max(1, min(16, count // workers))
            written = pool.map(write, range(count), chunksize=size)
            rows = list(counted("Simulating", written, total=count, unit="recordings"))
    else:
        numbers = counted("Simulating", range(count), unit="recordings")
        rows = [write(number) for number in numbers]
    table = folder / TABLE
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def _write(
    number: int,
    *,
    folder: Path,
    plan: Sequence[FieldSession],
    polarity: Polarity,
    seed: int,
    waveform: float | None,
) -> dict[str, str]:
    session, within = plan[number % len(plan)], number // len(plan)
    rng = np.random.default_rng([seed, 12, number])
    start = session.start + timedelta(seconds=_INTERVAL_S * within)
    # Without the class: a name must not reveal it.
    name = f"{session.equipment.name}-{session.unit:03d}_{start:%y%m%d_%H%M%S}"
    files = {"series": f"series/{name}.npy"}
    if waveform:
        np.save(folder / files["series"], simulate_waveform(session, rate=waveform, rng=rng))
    else:
        files["image"] = f"image/{name}.png"
        counts = simulate_field_recording(session, rng=rng, polarity=polarity)
        flat = counts.reshape(-1)
        np.save(folder / files["series"], flat.astype(np.uint8) if polarity == "unipolar" else flat)
        picture: ByteArray = drawn_pattern(counts, session.recorder)
        encoded = cv2.imencode(".png", picture[..., ::-1], _COMPRESSION)[1]
        (folder / files["image"]).write_bytes(encoded.tobytes())
    per_cycle = waveform / session.mains.frequency if waveform else BINS
    return {
        **files,
        "kind": session.kind,
        "frequency": f"{session.mains.frequency:g}",
        "samples_per_cycle": f"{per_cycle:g}",
        "session": session.name,
        "equipment": session.equipment.name,
        "insulator": session.equipment.insulator,
        "sensor": session.recorder.sensor,
    }
