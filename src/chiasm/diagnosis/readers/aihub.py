"""Reader of AI-Hub 71682, partial discharge for the prevention of industrial electrical fires.

A recording is three files with one stem: ``STEM.png``, the phase-resolved pattern, 256 x 256 RGB;
``STEM.csv``, no header, 20 rows x 7680 whole numbers, one row a second; ``STEM.json``, UTF-8 with
or without byte order mark. Image and series lie in source folders ``VS_...``, the JSON in label
folders ``VL_...`` (``TS_``, ``TL_`` in the training archives), anywhere below the root.

File and folder names, ``defect_nums``, ``defect_details`` and perhaps ``max_discharge_value``
reveal the class. Therefore the reader uses only ``label.PD_type``, ``power_supply_frequency`` and
the fields of the groups: equipment, insulator and session (equipment and day of recording).
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
    ProblemLog,
    RecordingRef,
    problem_message,
    read_pattern,
    sample_from_ref,
    whole_samples_per_cycle,
)
from chiasm.errors import DataError
from chiasm.files.content_hash import content_hash
from chiasm.files.readers import reader
from chiasm.samples import Problem, RecordingSample

IMAGE_SIZE = (256, 256)
SERIES_SHAPE = (20, 7680)
VALUES_PER_SECOND = 7680
FREQUENCY_HZ = 60.0
PREFIXES = ("VS_", "VL_", "TS_", "TL_")
ROLES = {".png": "image", ".csv": "series", ".json": "label"}
_FREQUENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:hz)?", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{6})(?:_?([0-9]{2})[0-9]*)?")


@reader("diagnosis")
class AiHub:
    """Recordings in the layout of AI-Hub 71682 below one folder.

    A recording is left out if a file is missing, or if its JSON is invalid or contradicts a second
    one. ``problems`` lists these recordings and all repairs. Raises ``DataError`` if no recording
    is left.
    """

    layout = "a folder in the layout of AI-Hub 71682 (with folders VS_... and VL_...)"
    kinds = KINDS

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        problems: list[Problem] = []
        self.refs = tuple(_recordings(self.root, problems))
        self._log = ProblemLog(problems)
        if not self.refs:
            causes = " ".join(map(problem_message, problems[:3]))
            raise DataError(
                f"{self.root} holds no complete recording: STEM.png and STEM.csv in a folder "
                f"VS_..., STEM.json in a folder VL_... were expected. {causes}".strip()
            )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder of AI-Hub 71682 with labels is at or below ``path``."""
        return has_archive_folders(path) and any(path.rglob("*.[jJ][sS][oO][nN]"))

    @property
    def name(self) -> str:
        """Name of the root folder."""
        return self.root.resolve().name

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out or repaired so far."""
        return self._log.all()

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return what the last ``load`` of the recording repaired."""
        return self._log.repairs(ref)

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording: image ``(256, 256, 3)``, series ``(1, 153600)`` in counts.

        An image of another size is resized and a grey one repeated to three channels; both are
        repairs. Raises ``DataError`` that names the file, and the row of a faulty table.
        """
        repairs: list[str] = []
        image = read_pattern(ref.files["image"], repairs, IMAGE_SIZE)
        series = read_counts_csv(ref.files["series"], SERIES_SHAPE)
        sample = sample_from_ref(ref, image=image, series=series)
        self._log.set_repairs(ref, repairs)
        return sample


def has_archive_folders(root: Path) -> bool:
    """Return whether a source or label folder of AI-Hub 71682 is at or below a folder."""
    return root.is_dir() and (
        root.name.startswith(PREFIXES)
        or any(name.startswith(PREFIXES) for _, folders, _ in os.walk(root) for name in folders)
    )


def _recordings(root: Path, problems: list[Problem]) -> Iterator[RecordingRef]:
    files = _files_by_stem(root)
    for stem in sorted(files):
        source = next(str(files[stem][role][0]) for role in ROLES.values() if role in files[stem])
        notes: list[str] = []
        try:
            ref = _recording(stem, files[stem], notes)
        except DataError as fault:
            problems.append(Problem(source, str(fault), left_out=True))
        else:
            problems += [Problem(ref.source, note, left_out=False) for note in notes]
            yield ref


def _files_by_stem(root: Path) -> dict[str, dict[str, list[Path]]]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; the root of the unpacked archives was expected.")
    files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, folders, names in os.walk(root):
        folders.sort()
        inside = (root.resolve().name, *Path(folder).relative_to(root).parts)
        if not any(_normalised(part).startswith(PREFIXES) for part in inside):
            continue
        for name in sorted(names):
            path = Path(folder, name)
            role = ROLES.get(path.suffix.lower())
            if role and not name.startswith("."):
                # Archives made on macOS spell Hangul with separate letters.
                files[_normalised(path.stem)][role].append(path)
    return files


def _normalised(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _recording(stem: str, files: Mapping[str, list[Path]], notes: list[str]) -> RecordingRef:
    missing = [f"{stem}{suffix}" for suffix, role in ROLES.items() if role not in files]
    if missing:
        present = ", ".join(str(paths[0]) for paths in files.values())
        raise DataError(f"{present} has no partner {' and '.join(missing)}.")
    image = _single_file(files["image"], notes)
    series = _single_file(files["series"], notes)
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
        notes.append(f"{other} repeats {files['label'][0]}; it is ignored.")
    return RecordingRef(
        source=str(image),
        files={"image": image, "series": series},
        frequency=frequency,
        samples_per_cycle=whole_samples_per_cycle(VALUES_PER_SECOND, frequency, str(series)),
        label=label,
        kind=KINDS[label],
        group=group,
    )


def _single_file(paths: list[Path], notes: list[str]) -> Path:
    """Return the only file of its role and stem, or the first of several with equal bytes."""
    for other in paths[1:]:
        if content_hash([other]) != content_hash(paths[:1]):
            raise DataError(
                f"{paths[0]} and {other} have one stem but different contents; it is unknown "
                "which one belongs to the recording."
            )
        notes.append(f"{other} repeats {paths[0]}; it is ignored.")
    return paths[0]


def _facts(path: Path, notes: list[str]) -> tuple[int, dict[str, str], float]:
    """Return label, groups and mains frequency."""
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
    """Return equipment and day, or day and hour if the equipment has no number."""
    number = _text(equipment, "equipment_id")
    time = _TIME.fullmatch(_text(environment, "recording_time"))
    if time is None:
        effect = "all of its equipment is one session" if number else "it has no group 'session'"
        notes.append(f"{path} has no recording_time such as 230910_195222; {effect}.")
        return number
    day, hour = time[1], time[2]
    if number:
        return f"{number}_{day}"
    notes.append(f"{path} has no equipment_id; its session is the day and hour of recording.")
    return f"{day}_{hour}" if hour else day


def _frequency(environment: Mapping[str, Any], path: Path, notes: list[str]) -> float:
    text = _text(environment, "power_supply_frequency")
    if not text:
        notes.append(f"{path} has no power_supply_frequency; {FREQUENCY_HZ:g} Hz is assumed.")
        return FREQUENCY_HZ
    match = _FREQUENCY.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise DataError(f"{path} has power_supply_frequency '{text}'; '60Hz' was expected.")
    return float(match[1])


def _section(content: Any, key: str) -> Mapping[str, Any]:
    """Return a section of the JSON; an empty one if it is missing or no mapping."""
    section = content.get(key) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}


def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    return "" if value is None else _normalised(str(value).strip())
