"""What a conversion of sensor files needs to be told, found out at once from the files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chiasm.detection.preparation.distance import distances_by_unit
from chiasm.detection.readers.camera import read_intrinsics
from chiasm.detection.readers.range_image import is_list
from chiasm.detection.readers.sensor_folders import sensor_refs
from chiasm.detection.sensors.pairing import Pairing
from chiasm.errors import DataError
from chiasm.files.decoding import bytes_of, numbers_of

Form = Literal["depth", "points", "cloud", "table"]
CLOUDS = frozenset({".ply", ".pcd", ".zdf", ".praw", ".obj", ".stl"})
TABLES = frozenset({".csv", ".txt", ".tsv", ".xyz", ".asc"})
ARRAYS = frozenset({".png", ".pgm", ".tif", ".tiff", ".npy", ".npz", ".exr", ".pfm"})
CAMERA_FILES = frozenset({".json", ".yaml", ".yml", ".mat", ".txt", ".xml"})
FOLDERS_3D = ("depth", "height", "heights", "range", "xyz", "points", "cloud", "ply", "pcd")
_CAMERA_WORDS = ("fx", "camera_matrix", "intrinsic_matrix", "cam_k", '"k"', "intrinsic", "ppx")
_MOST_READ = 200_000  # bytes of a file that is looked into for intrinsics
_MILLIMETRES = (0.1, 1.5)  # metres, between which counts are usually millimetres
_METRES = 50.0  # beyond it a median is in another unit than metres


@dataclass(frozen=True, slots=True)
class SensorSurvey:
    """What a folder of sensor files shows.

    Attributes:
        origin: the folder.
        example: a 3D file; None where none was found.
        form: of it: an image of one channel (``depth``: distances or heights), a map of
            ``points``, a ``cloud`` or a ``table``.
        whole: whether its values are whole counts; None where that was not looked at.
        median: of its values that are not 0; None likewise.
        camera: file that seems to hold intrinsics; None without one.
        placed: whether the files lie in folders of split and kind.
        signed: whether some of its values are negative, as only heights are.
    """

    origin: Path
    example: Path | None = None
    form: Form | None = None
    whole: bool | None = None
    median: float | None = None
    camera: Path | None = None
    placed: bool = False
    signed: bool = False


@dataclass(frozen=True, slots=True)
class MissingFact:
    """A fact that the files do not tell.

    Attributes:
        option: that gives it, with its value's name, e.g. ``"--unit METRES"``.
        name: of the option's value among the given ones, e.g. ``"unit"``.
        question: for a person, in a line.
        guess: a value that seems right; "" without one.
        why: what was found, as a sentence.
    """

    option: str
    name: str
    question: str
    guess: str
    why: str


def survey_sensor_files(origin: Path | str) -> SensorSurvey:
    """Look at the names in a folder and into one of its 3D files; raises nothing for odd ones."""
    origin = Path(origin)
    example, placed = _example(origin)
    if example is None:
        return SensorSurvey(origin=origin, camera=_camera_file(origin))
    form, whole, median, signed = _look_into(example)
    return SensorSurvey(
        origin=origin,
        example=example,
        form=form,
        whole=whole,
        median=median,
        camera=_camera_file(origin),
        placed=placed,
        signed=signed,
    )


def missing_facts(survey: SensorSurvey, given: Mapping[str, Any]) -> tuple[MissingFact, ...]:
    """Return what must be told before the files can be converted, in the order of asking.

    Args:
        survey: of the folder.
        given: values of options by name: ``unit``, ``intrinsics``, ``pitch``, ``split``, ``kind``;
            None or absent where they were not given.
    """
    facts = []
    name = survey.example.name if survey.example is not None else ""

    def lacks(*options: str) -> bool:
        return all(given.get(option) is None for option in options)

    if survey.form == "depth" and lacks("intrinsics", "pitch"):
        facts.append(
            MissingFact(
                "--pitch METRES",
                "intrinsics",
                "Metres between the pixels of the height map",
                "",
                f"{name} has negative values, so that it is a map of heights, of which the metres "
                "between its pixels are needed (and --pitch-y where rows differ).",
            )
            if survey.signed
            else MissingFact(
                "--intrinsics FILE",
                "intrinsics",
                "File with the depth camera's fx, fy, cx and cy in pixels (or, of a height map, "
                "metres between its pixels)",
                "" if survey.camera is None else str(survey.camera),
                f"{name} is an image of one channel. Of a camera's depth, its intrinsics are "
                "needed; of a profiler's heights, the metres between its pixels instead "
                "(--pitch 0.0001).",
            )
        )
    camera = given.get("intrinsics") or survey.camera
    if lacks("unit") and not _names_unit(camera) and (guess := _unit(survey)) is not None:
        facts.append(
            MissingFact(
                "--unit METRES",
                "unit",
                "Metres of one count or unit of the 3D data",
                guess,
                _why_unit(survey, name, guess, of_heights=given.get("pitch") is not None),
            )
        )
    if (
        survey.example is not None
        and not survey.placed
        and given.get("split") == "test"
        and lacks("kind")
    ):
        facts.append(
            MissingFact(
                "--kind NAME",
                "kind",
                "Kind of these test parts: good, or the kind of defect",
                "",
                "Test parts lie in a folder of their kind. For parts of unknown quality leave out "
                "--split.",
            )
        )
    return tuple(facts)


def convert_command(
    origin: Path | str,
    destination: Path | str,
    given: Mapping[str, Any],
    facts: Sequence[MissingFact] = (),
) -> str:
    """Return the command of a conversion, with a guess or a name in the place of missing facts.

    Args:
        origin, destination: of the conversion.
        given: values of options by name; True stands for a flag, a sequence for a repeated option.
        facts: that are missing.
    """
    words = ["chiasm", "data", "convert", str(origin), str(destination)]
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [word for one in value for word in (option, f"{one:g}")]
        else:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    # A name of a value is not quoted, so that it is seen to stand for one.
    open_words = [
        f"{option} {shlex.quote(fact.guess) if fact.guess else value}"
        for fact in facts
        for option, value in [fact.option.split(" ")]
    ]
    return " ".join([shlex.join(words), *open_words])


def with_answers(given: Mapping[str, Any], answers: Mapping[str, str]) -> dict[str, Any]:
    """Return the given values with answers by the names of missing facts.

    A number in the place of intrinsics is the pitch of a height map.

    Raises:
        DataError: an answer is no number, where one is needed.
    """
    values = dict(given)
    for name, answer in answers.items():
        number = _number(answer)
        if name == "intrinsics":
            values["pitch" if number is not None else name] = number or Path(answer)
        elif name == "unit":
            if number is None:
                raise DataError(f"The unit is {answer!r}; a length in metres was expected: 0.001.")
            values[name] = number
        else:
            values[name] = answer
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def missing_facts_error(
    facts: Sequence[MissingFact], origin: Path, destination: Path, given: Mapping[str, Any]
) -> DataError:
    """Return one error that names all that is missing, and the command to complete."""
    needed = "one fact is" if len(facts) == 1 else f"{len(facts)} facts are"
    lines = [f"Before {origin} can be converted, {needed} needed:"]
    lines += [f"  {fact.option}: {fact.why}" for fact in facts]
    words = "Complete this command" if any(not fact.guess for fact in facts) else "Run this, if the"
    words += "" if any(not fact.guess for fact in facts) else " values are right"
    lines.append(f"{words}:\n  {convert_command(origin, destination, given, facts)}")
    return DataError("\n".join(lines), see="missing-facts")


def _folders(origin: Path) -> list[tuple[Path, bool]]:
    """Return folders of 3D files, and whether they lie below split and kind."""
    direct = [(origin / name, False) for name in FOLDERS_3D]
    placed = [
        (kind / name, True)
        for split in ("train", "validation", "test")
        if (origin / split).is_dir()
        for kind in sorted((origin / split).iterdir())
        for name in FOLDERS_3D
    ]
    return [(folder, below) for folder, below in (*direct, *placed) if folder.is_dir()]


def _example(origin: Path) -> tuple[Path | None, bool]:
    """Return a 3D file, and whether the files lie below split and kind."""
    try:
        refs = sensor_refs(origin, Pairing())
    except (DataError, OSError):  # said by the conversion
        refs = None
    files = [(ref.files["xyz"], bool(ref.split)) for ref in refs or () if "xyz" in ref.files]
    if not files:
        files = [
            (path, placed)
            for folder, placed in _folders(origin)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in CLOUDS | TABLES | ARRAYS and path.name[0] != "."
        ]
    return files[len(files) // 2] if files else (None, False)


def _look_into(path: Path) -> tuple[Form | None, bool | None, float | None, bool]:
    suffix = path.suffix.lower()
    if suffix in CLOUDS:
        return "cloud", None, None, False
    if suffix in TABLES:
        return "table", None, None, False
    try:
        held = numbers_of(bytes_of(path), str(path))
    except DataError:  # a damaged file is told with its name where it is read
        return None, None, None, False
    values = held.values
    if values.ndim == 2 and is_list(values):
        return "cloud", None, None, False
    form: Form = "depth" if values.ndim == 2 else "points"
    plane = values if values.ndim == 2 else values[..., 2]
    numbers = plane[np.isfinite(plane) & (plane != 0) & ~np.isin(plane, held.missing)]
    whole = values.dtype.kind in "ui"
    if whole and numbers.size:
        limits = np.iinfo(values.dtype)  # markers of what is missing
        numbers = numbers[(numbers != limits.max) & (numbers != limits.min)]
    median = float(np.median(np.abs(numbers.astype(np.float64)))) if numbers.size else None
    signed = form == "depth" and whole and bool((numbers < 0).any())
    return form, whole, median, signed


def _camera_file(origin: Path) -> Path | None:
    """Return a file beside the images that names intrinsics."""
    for path in sorted(origin.iterdir()) if origin.is_dir() else ():
        if path.suffix.lower() not in CAMERA_FILES or not path.is_file():
            continue
        if path.suffix.lower() == ".mat":
            return path
        with path.open("rb") as stream:
            text = stream.read(_MOST_READ).decode("utf-8", "replace").lower()
        if any(word in text for word in _CAMERA_WORDS):
            return path
    return None


def _names_unit(camera: Path | str | None) -> bool:
    """Return whether a file of intrinsics also says how long a count of depth is."""
    try:
        return camera is not None and read_intrinsics(camera).depth_unit is not None
    except (DataError, OSError):  # said where it is read
        return False


def _unit(survey: SensorSurvey) -> str | None:
    """Return a guess of the unit, "" without one; None where no unit is missing."""
    median = survey.median
    counts = survey.form in ("depth", "points") and bool(survey.whole)
    far = survey.form in ("depth", "points") and median is not None and median > _METRES
    if not counts and not far:
        return None
    usual = median is not None and _MILLIMETRES[0] <= median * 1e-3 <= _MILLIMETRES[1]
    return "0.001" if usual else ""


def _why_unit(survey: SensorSurvey, name: str, guess: str, *, of_heights: bool) -> str:
    """Return what is known of the unit, as a sentence: what each would mean."""
    counts = "whole counts" if survey.whole else "values"
    known = f"{name} holds {counts} of an unknown length"
    if survey.median is None or of_heights:
        return f"{known}; in millimetres it is 0.001."
    known += f", {survey.median:.4g} in the middle"
    distances = distances_by_unit(survey.median)
    if not distances:
        return f"{known}; in millimetres it is 0.001."
    return f"{known}. Distances by unit: {distances}{'; 0.001 is the commonest' * bool(guess)}."
