"""Reader of AI-Hub 71682, partial discharge for the prevention of industrial electrical fires.

A recording is three files with one stem: ``STEM.png``, the phase-resolved pattern, 256 x 256 RGB;
``STEM.csv``, no header, 20 rows x 7680 whole numbers, one row a second; ``STEM.json``, UTF-8 with
or without byte order mark. Image and series lie in source folders ``VS_...``, the JSON in label
folders ``VL_...`` (``TS_``, ``TL_`` in the training archives), anywhere below the root.

The class stands in file and folder names, ``defect_nums``, ``defect_details`` and perhaps
``max_discharge_value`` too. Of the JSON only ``label.PD_type``, ``power_supply_frequency`` and
what the groups are made of are ever looked at: equipment, insulator and session, which is
equipment and day of recording.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chiasm.diagnosis.readers.series_files import read_counts_csv
from chiasm.diagnosis.readers.source import (
    KINDS,
    LEFT_OUT,
    FileReader,
    Problems,
    RecordingRef,
    read_pattern,
    recorded_sample,
    whole_cycle,
)
from chiasm.errors import DataError
from chiasm.files.content_hash import content_hash
from chiasm.samples import RecordingSample

IMAGE_SIZE = (256, 256)
SERIES_SHAPE = (20, 7680)
VALUES_PER_SECOND = 7680
FREQUENCY_HZ = 60.0
PREFIXES = ("VS_", "VL_", "TS_", "TL_")
ROLES = {".png": "image", ".csv": "series", ".json": "label"}
_FREQUENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:hz)?", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{6})(?:_?([0-9]{2})[0-9]*)?")


class AiHub(FileReader):
    """Recordings in the layout of AI-Hub 71682 below one folder.

    A recording whose files are not complete, or whose JSON cannot be understood or contradicts a
    second one, is left out and listed in ``problems``; so is everything that was repaired. Raises
    ``DataError`` where no recording is left.
    """

    kinds = KINDS

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        found: list[str] = []
        self._refs = tuple(_recordings(self.root, found))
        self._problems = Problems(found)
        if not self._refs:
            raise DataError(
                f"{self.root} holds no complete recording: STEM.png and STEM.csv in a folder "
                f"VS_..., STEM.json in a folder VL_... were expected. {' '.join(found[:3])}".strip()
            )

    @property
    def name(self) -> str:
        """Name of the root folder."""
        return self.root.resolve().name

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording: image ``(256, 256, 3)``, series ``(1, 153600)`` in counts.

        An image of another size is resized, a grey one repeated to three channels; both are
        counted. Raises ``DataError`` naming the file, and the row of a faulty table.
        """
        repairs: list[str] = []
        image = read_pattern(ref.files["image"], repairs, IMAGE_SIZE)
        series = read_counts_csv(ref.files["series"], SERIES_SHAPE)
        sample = recorded_sample(ref, image=image, series=series)
        self._problems.note(ref, repairs)
        return sample


def recognises(root: Path) -> bool:
    """Tell whether a source or label folder of AI-Hub 71682 lies at or below ``root``."""
    return root.name.startswith(PREFIXES) or any(
        name.startswith(PREFIXES) for _, folders, _ in os.walk(root) for name in folders
    )


def _recordings(root: Path, problems: list[str]) -> Iterator[RecordingRef]:
    files = _files_by_stem(root)
    for stem in sorted(files):
        try:
            yield _recording(stem, files[stem], problems)
        except DataError as fault:
            problems.append(f"{fault} {LEFT_OUT}")


def _files_by_stem(root: Path) -> dict[str, dict[str, list[Path]]]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; the root of the unpacked archives was expected.")
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, folders, names in os.walk(root):
        folders.sort()
        inside = (root.resolve().name, *Path(folder).relative_to(root).parts)
        if not any(_composed(part).startswith(PREFIXES) for part in inside):
            continue
        for name in sorted(names):
            path = Path(folder, name)
            role = ROLES.get(path.suffix.lower())
            if role and not name.startswith("."):
                # Archives made on macOS spell Hangul with separate letters.
                found[_composed(path.stem)][role].append(path)
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _recording(stem: str, files: Mapping[str, list[Path]], problems: list[str]) -> RecordingRef:
    missing = [f"{stem}{suffix}" for suffix, role in ROLES.items() if role not in files]
    if missing:
        there = ", ".join(str(paths[0]) for paths in files.values())
        raise DataError(f"{there} has no partner {' and '.join(missing)}.")
    image = _only(files["image"], problems)
    series = _only(files["series"], problems)
    notes: list[str] = []
    label, group, frequency = _facts(files["label"][0], notes)
    for other in files["label"][1:]:
        second = _facts(other, [])
        if second[0] != label:
            raise DataError(
                f"{files['label'][0]} says PD_type {label}, {other} says {second[0]}: one "
                "recording has one label."
            )
        if second[1:] != (group, frequency):
            raise DataError(
                f"{files['label'][0]} and {other} name different equipment, days or mains "
                "frequencies for one recording."
            )
        notes.append(f"{other} repeats {files['label'][0]}; it was passed over.")
    problems.extend(notes)
    return RecordingRef(
        source=str(image),
        files={"image": image, "series": series},
        frequency=frequency,
        samples_per_cycle=whole_cycle(VALUES_PER_SECOND, frequency, str(series)),
        label=label,
        kind=KINDS[label],
        group=group,
    )


def _only(paths: list[Path], problems: list[str]) -> Path:
    """The one file of its role and stem, or the first of several with the same bytes."""
    for other in paths[1:]:
        if content_hash([other]) != content_hash(paths[:1]):
            raise DataError(
                f"{paths[0]} and {other} have one stem but different contents; which belongs to "
                "the recording cannot be told."
            )
        problems.append(f"{other} repeats {paths[0]}; it was passed over.")
    return paths[0]


def _facts(path: Path, notes: list[str]) -> tuple[int, dict[str, str], float]:
    """Label, groups and mains frequency; nothing else of the file is looked at."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as cause:
        raise DataError(f"{path} cannot be read as UTF-8 JSON ({cause}).") from cause
    label = _section(content, "label").get("PD_type")
    if isinstance(label, str) and label.strip().isdecimal():
        label = int(label)
    if type(label) is not int or not 0 <= label < len(KINDS):
        raise DataError(
            f"{path} has label.PD_type {label!r}; 0 normal, 1 noise, 2 surface, 3 corona or 4 void "
            "was expected."
        )
    metadata = _section(content, "metadata")
    equipment = _section(metadata, "equipment_information")
    environment = _section(metadata, "environment")
    group = {
        "session": _session(equipment, environment, path, notes),
        "equipment": _text(equipment, "equipment_name"),
        "insulator": _text(equipment, "insulator_type"),
    }
    for key, name in (("equipment", "equipment_name"), ("insulator", "insulator_type")):
        if not group[key]:
            notes.append(f"{path} has no {name}; the recording has no group '{key}'.")
    return label, {k: v for k, v in group.items() if v}, _frequency(environment, path, notes)


def _session(
    equipment: Mapping[str, Any], environment: Mapping[str, Any], path: Path, notes: list[str]
) -> str:
    """Equipment and day; day and hour where the equipment has no number."""
    number = _text(equipment, "equipment_id")
    time = _TIME.fullmatch(_text(environment, "recording_time"))
    if time is None:
        rest = "the session is all of its equipment's" if number else "it has no group 'session'"
        notes.append(f"{path} has no recording_time such as 230910_195222; {rest}.")
        return number
    day, hour = time[1], time[2]
    if number:
        return f"{number}_{day}"
    notes.append(f"{path} has no equipment_id; its session is the day and hour of recording.")
    return f"{day}_{hour}" if hour else day


def _frequency(environment: Mapping[str, Any], path: Path, notes: list[str]) -> float:
    text = _text(environment, "power_supply_frequency")
    if not text:
        notes.append(f"{path} has no power_supply_frequency; {FREQUENCY_HZ:g} Hz was taken.")
        return FREQUENCY_HZ
    found = _FREQUENCY.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise DataError(f"{path} has power_supply_frequency '{text}'; '60Hz' was expected.")
    return float(found[1])


def _section(content: Any, key: str) -> Mapping[str, Any]:
    """A part of the JSON; empty where there is none or it is no mapping."""
    section = content.get(key) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}


def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    return "" if value is None else _composed(str(value).strip())
