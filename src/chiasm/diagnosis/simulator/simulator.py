"""Simulated recordings of partial discharge, written as files of series and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np

from chiasm.diagnosis.simulator.field import FIELD_CLASSES, FREQUENCIES, make_field_recordings
from chiasm.diagnosis.simulator.field_recorder import POLARITIES, Polarity
from chiasm.diagnosis.simulator.image import ByteArray, draw_prpd
from chiasm.diagnosis.simulator.physics import (
    BINS,
    CYCLES,
    FREQUENCY_HZ,
    Pulses,
    Rng,
    corona_pulses,
    gap_discharges,
    join_pulses,
    no_pulses,
    surface_gap,
    void_gap,
)
from chiasm.diagnosis.simulator.sessions import (
    CLASSES,
    MAXIMUM_PER_SESSION,
    TIERS,
    Latents,
    Session,
    Tier,
    check_choice,
    noise_pulses,
    plan_session,
    stray_pulses,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.training.progress import counted

Pairing = Literal["exact", "jittered", "mismatched"]
PAIRINGS = get_args(Pairing)
FIELD = "field"
_WAVEFORM_CYCLES = 2
SECONDS = 20

# Delay of the recorder's trigger behind the mains; it turns a frequency deviation into a phase
# deviation.
_TRACKING_S = 0.2
_COMPRESSION = (cv2.IMWRITE_PNG_COMPRESSION, 4)


def discharge_pulses(kind: str, overvoltage: float, character: Rng, rng: Rng) -> Pulses:
    """Draw the pulses of one recording of ``kind``; a normal one has none."""
    if kind == "void":
        return gap_discharges(void_gap(overvoltage, character), rng)
    if kind == "surface":
        return gap_discharges(surface_gap(overvoltage, character), rng)
    if kind == "corona":
        return corona_pulses(overvoltage, character, rng)
    return noise_pulses(character, rng) if kind == "noise" else no_pulses()


def simulate_recording(kind: str, *, latents: Latents, rng: Rng) -> tuple[ByteArray, Pulses]:
    """Simulate 20 s of one session.

    Returns the recorder's counts, ``(1200, 128)`` uint8: the maximum in each of 128 phase bins of
    each of 1200 mains cycles; and the pulses, with the phase relative to the recorder's trigger.
    Raises ``ConfigurationError`` for an unknown class.
    """
    check_choice("class", kind, CLASSES)
    parts = []
    for number, (name, strength) in enumerate(((kind, 1.0), *latents.secondary)):
        character = np.random.default_rng([latents.character, number])
        overvoltage = max(1.005, latents.overvoltage * (1 + 0.01 * rng.standard_normal()))
        pulses = discharge_pulses(name, overvoltage, character, rng)
        parts.append(pulses.scaled(strength))
    parts.append(stray_pulses(latents.interference, 45, rng))
    pulses = join_pulses(parts)
    offset = latents.offset_deg + rng.standard_normal()
    swing = 1 + 0.5 * np.sin(2 * np.pi * (pulses.cycle / CYCLES + rng.random()))
    shift = offset + 360 * latents.drift_hz * _TRACKING_S * swing
    turns, phase = np.divmod(pulses.phase + shift, 360)
    # Pulses shifted past the end of the last cycle wrap around to the first one.
    cycle = (pulses.cycle + turns.astype(np.int64)) % CYCLES
    recorded = Pulses(cycle, phase.astype(np.float32), pulses.charge * np.float32(latents.gain))
    # The envelope of white noise is Rayleigh distributed.
    floor = latents.sigma * np.sqrt(2 * rng.standard_exponential((CYCLES, BINS), np.float32))
    index = np.minimum((phase * (BINS / 360)).astype(np.int64), BINS - 1) + cycle * BINS
    np.maximum.at(floor.reshape(-1), index, recorded.charge)
    counts = np.clip(np.rint(latents.pedestal + floor), 0, 255).astype(np.uint8)
    return counts, recorded


# Marks a folder of simulated recordings; reports then show a notice.
MARKER = "simulated.json"


def make_recordings(
    folder: Path | str,
    *,
    count: int = 2000,
    sessions: int = 100,
    tier: Tier | Literal["field"] = "easy",
    pairing: Pairing = "exact",
    seed: int = 0,
    workers: int = 2,
    classes: Sequence[str] = (),
    frequency: float | None = None,
    polarity: Polarity = "unipolar",
    cycles: int | None = None,
    waveform: float | None = None,
) -> Path:
    """Write simulated recordings, in the layout of AI-Hub 71682 or, of the field, as a table.

    The tiers easy and hard have five classes at 60 Hz, in magnitudes. The tier field has
    ``FIELD_CLASSES``, at 50 or 60 Hz by session or at ``frequency``, with the signs of the pulses
    if ``polarity`` is ``"bipolar"``, of ``cycles`` mains cycles (1200), or 2 as sampled
    ``waveform`` with so many values a second, and is written by ``make_field_recordings``. An empty
    ``classes`` is all. Returns what readers open: the folder, or the table in it.

    ``folder/VS_{class}_{insulator}_{equipment}/STEM.csv`` holds 20 rows of 7680 integers in
    [0, 255], a row a second, and ``STEM.png`` beside it the 256 x 256 PRPD picture;
    ``folder/VL_.../STEM.json`` the label and metadata, UTF-8 with BOM. A session is one
    ``equipment_id`` on one date of ``recording_time``, and of one class.

    ``pairing`` selects the content of the picture: ``"exact"`` the series itself, ``"jittered"``
    another 20 s of the same session, ``"mismatched"`` a session of another class (the label
    follows the series). ``simulated.json`` marks the folder as simulated. A recording depends on
    the seed and its number, not on the number of ``workers``. Raises ``ConfigurationError`` for an
    unknown tier, pairing or class, or for inconsistent settings, and ``DataError`` if ``folder``
    already holds recordings.
    """
    check_choice("tier", tier, (*TIERS, FIELD))
    folder, field = Path(folder), tier == FIELD
    known = FIELD_CLASSES if field else CLASSES
    classes = tuple(classes) or known
    _check(count, sessions, pairing, seed, classes, known)
    _check_recorder(tier, pairing, frequency, polarity, cycles, waveform)
    holds = ("VS_", "VL_", "recordings.csv")
    if folder.is_dir() and any(path.name.startswith(holds) for path in folder.iterdir()):
        raise DataError(
            f"{folder} already holds recordings; choose an empty folder or delete what is in it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "count": count,
        "sessions": sessions,
        "tier": tier,
        "pairing": pairing,
        "seed": seed,
    }
    if field:
        settings |= {"classes": classes, "frequency": frequency, "polarity": polarity}
        settings |= {"cycles": cycles, "waveform": waveform}
    (folder / MARKER).write_text(json.dumps({"simulated": settings}, indent=2) + "\n")
    if tier == "field":
        return make_field_recordings(
            folder,
            count=count,
            sessions=sessions,
            seed=seed,
            workers=workers,
            classes=classes,
            frequency=frequency,
            polarity=polarity,
            cycles=cycles or (_WAVEFORM_CYCLES if waveform else CYCLES),
            waveform=waveform,
        )
    plan = [
        plan_session(number, sessions, tier=tier, seed=seed, classes=classes)
        for number in range(sessions)
    ]
    write = partial(_write, folder=folder, plan=plan, pairing=pairing, seed=seed)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            size = max(1, min(16, count // workers))
            written = pool.map(write, range(count), chunksize=size)
            list(counted("Simulating", written, total=count, unit="recordings"))
    else:
        for number in counted("Simulating", range(count), unit="recordings"):
            write(number)
    return folder


def _check(
    count: int,
    sessions: int,
    pairing: str,
    seed: int,
    classes: Sequence[str],
    known: Sequence[str],
) -> None:
    check_choice("pairing", pairing, PAIRINGS)
    for name in classes:
        check_choice("class", name, known)
    if len(set(classes)) < len(classes):
        raise ConfigurationError(f"classes={classes!r} names a class twice; name each class once.")
    if pairing == "mismatched" and len(classes) < 2:
        raise ConfigurationError(
            "pairing='mismatched' takes the picture from another class; give at least two classes."
        )
    if sessions < len(classes):
        raise ConfigurationError(
            f"sessions={sessions} is fewer than the {len(classes)} classes; give at least one "
            "session per class."
        )
    if not sessions <= count <= sessions * MAXIMUM_PER_SESSION:
        raise ConfigurationError(
            f"count={count} recordings do not fill sessions={sessions}: a session has 1 to "
            f"{MAXIMUM_PER_SESSION} recordings."
        )
    if seed < 0:
        raise ConfigurationError(f"seed={seed} is negative; give 0 or more.")


def _check_recorder(
    tier: str,
    pairing: str,
    frequency: float | None,
    polarity: str,
    cycles: int | None,
    waveform: float | None,
) -> None:
    check_choice("polarity", polarity, POLARITIES)
    if tier != FIELD:
        of_field = (frequency not in (None, FREQUENCY_HZ), polarity != "unipolar", cycles, waveform)
        if any(of_field):
            raise ConfigurationError(
                f"The tier {tier} is written as AI-Hub 71682: magnitudes at {FREQUENCY_HZ:g} Hz, "
                f"{CYCLES} cycles. Other frequencies, lengths and signs are of the tier field."
            )
        return
    if pairing != "exact":
        raise ConfigurationError(
            f"pairing='{pairing}' is of the tiers easy and hard; the tier field pairs exactly."
        )
    if frequency is not None and not 10 <= frequency <= 400:
        raise ConfigurationError(
            f"frequency={frequency:g} is no frequency of a mains; give 10 to 400 Hz, e.g. 50."
        )
    if cycles is not None and (cycles < 2 or cycles % 2):
        raise ConfigurationError(f"cycles={cycles} is no even number of mains cycles, 2 or more.")
    mains = FREQUENCIES if frequency is None else (frequency,)
    if waveform and any(waveform < 32 * f or waveform / f % 1 for f in mains):
        raise ConfigurationError(
            f"waveform={waveform:g} values a second are no whole number, 32 or more, in a cycle of "
            f"{' and '.join(f'{f:g}' for f in mains)} Hz; give a multiple, e.g. 600000."
        )


def is_simulated(data: Path | str) -> bool:
    """Return whether ``make_recordings`` wrote a folder, or the folder of a table."""
    path = Path(data)
    return ((path.parent if path.is_file() else path) / MARKER).is_file()


def _write(number: int, folder: Path, plan: Sequence[Session], pairing: Pairing, seed: int) -> None:
    index, within = number % len(plan), number // len(plan)
    session = plan[index]
    rng, other_rng = (np.random.default_rng([seed, 2, number, part]) for part in (0, 1))
    counts, _ = simulate_recording(session.kind, latents=session.latents, rng=rng)
    pictured = counts
    if pairing == "jittered":
        pictured, _ = simulate_recording(session.kind, latents=session.latents, rng=other_rng)
    elif pairing == "mismatched":
        others = [other for other in plan if other.kind != session.kind]
        other = others[int(other_rng.integers(len(others)))]
        pictured, _ = simulate_recording(other.kind, latents=other.latents, rng=other_rng)
    picture = draw_prpd(pictured, session.latents.look)

    equipment = session.latents.equipment
    start = session.recording_start(within)
    name = f"{session.kind}_{equipment.insulator}_{equipment.name}"
    stem = f"{name}_{start:%y%m%d_%H%M%S}_{session.latents.sensor}_{session.latents.clearance_mm}"
    source, label = folder / f"VS_{name}", folder / f"VL_{name}"
    for subfolder in (source, label):
        subfolder.mkdir(parents=True, exist_ok=True)
    (source / f"{stem}.csv").write_bytes(_csv(counts))
    encoded = cv2.imencode(".png", picture[..., ::-1], _COMPRESSION)[1]
    (source / f"{stem}.png").write_bytes(encoded.tobytes())
    text = json.dumps(_document(session, start, stem, counts, rng), ensure_ascii=False, indent=2)
    (label / f"{stem}.json").write_text(text, encoding="utf-8-sig")


@lru_cache
def _numerals() -> tuple[ByteArray, ByteArray]:
    # Each amplitude as right-aligned digits and a comma, and which of these bytes are written.
    digits = np.array([list(f"{value:3d},".encode()) for value in range(256)], dtype=np.uint8)
    return digits, digits != ord(" ")


def _csv(counts: ByteArray) -> bytes:
    digits, used = _numerals()
    flat = counts.reshape(SECONDS, -1)
    # (20, 7680, 4): four bytes per value; the last comma of a row becomes a line end.
    text = digits[flat]
    text[:, -1, 3] = ord("\n")
    return text[used[flat]].tobytes()


def _document(
    session: Session, start: datetime, stem: str, counts: ByteArray, rng: Rng
) -> dict[str, Any]:
    """Return the JSON file's content, with all fields of the real files."""
    latents, equipment = session.latents, session.latents.equipment
    details = [] if session.kind == "normal" else [session.kind]
    details += [name for name, _ in latents.secondary]
    return {
        "label": {
            "PD_type": CLASSES.index(session.kind),
            "image_path": f"{stem}.png",
            "timeseries_path": f"{stem}.csv",
        },
        "metadata": {
            "equipment_information": {
                "insulator_type": equipment.insulator,
                "insulator_name": equipment.insulator_name,
                "equipment_name": equipment.name,
                "equipment_manufacturer": equipment.maker,
                "equipment_id": session.equipment_id,
                "equipment_rated_voltage": f"{equipment.volts}V",
                "equipment_rated_current": f"{equipment.amperes}A",
            },
            "environment": {
                "recording_time": f"{start:%y%m%d_%H%M%S}",
                "recording_time_length": SECONDS,
                "power_supply_frequency": f"{FREQUENCY_HZ:.0f}Hz",
                "sensor_type": latents.sensor,
                "temperature": round(session.temperature_c + 0.2 * rng.standard_normal(), 1),
                "humidity": round(session.humidity + rng.standard_normal(), 1),
                "clearance_distance": f"['{latents.clearance_mm}mm']",
            },
            "discharge_information": {"defect_nums": len(details), "defect_details": details},
            "discharge_evaluation_factors": {"max_discharge_value": int(counts.max())},
        },
    }
