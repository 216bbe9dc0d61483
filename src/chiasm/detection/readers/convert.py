"""Convert readable samples of any layout into the MVTec 3D-AD layout."""

from __future__ import annotations

import csv
import dataclasses
import errno
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiasm.detection.readers.camera import Intrinsics, back_project, read_intrinsics
from chiasm.detection.readers.checked_sample import checked_sample
from chiasm.detection.readers.conversion_log import (
    LOCK,
    ConversionLog,
    Done,
    check_destination,
    stamp_of,
)
from chiasm.detection.readers.mvtec3d import SPLITS
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.point_cloud_files import CLOUD_SUFFIXES, read_cloud
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import ArtifactError, DataError
from chiasm.files.appearing import appearing, remove_halves
from chiasm.files.audit_text import Watching, read, unwatched_stage
from chiasm.files.images import (
    RGB_SUFFIXES,
    image_files,
    read_depth,
    read_rgb,
    write_mask,
    write_rgb,
    write_xyz,
)
from chiasm.files.locks import write_lock
from chiasm.files.readers import without_listing
from chiasm.runs.ordered_map import Failure, map_in_order
from chiasm.samples import FloatArray, Problem, RGBDSample

SENSOR_FOLDERS = ("depth", "ply", "pcd", "cloud", "xyz")


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        root: the new folder.
        written: number of parts in it.
        problems: one for each part or file that was left out.
        kept: number of parts that were complete before.
    """

    root: Path
    written: int
    problems: tuple[Problem, ...]
    kept: int = 0


def convert(
    origin: Path | str,
    destination: Path | str,
    *,
    split: str | None = None,
    kind: str | None = None,
    unit_m: float | None = None,
    intrinsics: Path | str | None = None,
    lamp: int | None = None,
    workers: int = 1,
    strict: bool = False,
    progress: Watching = unwatched_stage,
) -> Conversion:
    """Write samples as ``destination/{split}/{kind}/{rgb,xyz,gt}/NNN``, or go on with that.

    ``origin`` is a path that ``open_source`` reads, or a folder with ``rgb/`` and one of
    ``depth/`` (16-bit PNG or TIFF; needs ``intrinsics``, a JSON file), ``ply/``, ``pcd/``,
    ``cloud/``, where the files of one part share a name. ``split`` and ``kind`` are used for parts
    whose origin has none. ``unit_m`` is the length in metres of one depth count or of the points'
    unit; None takes metres, and refuses integer counts of depth. Colours are written with 8 bits.
    Parts that cannot be read are left out, and their numbers are free until they can be;
    ``origin.csv`` lists the origin of each file. The same call on the same destination makes
    what is missing, and what has changed at the origin.

    Args:
        origin, destination, split, kind, unit_m, intrinsics, lamp: see above.
        workers: processes at work.
        strict: stop at the first part that is left out.
        progress: hands on the parts of a stage, of which it gets name and number.

    Raises:
        DataError: no part can be written, ``destination`` holds something else, or ``strict``
            found something.
        ArtifactError: the disk is full; what is complete is kept.
    """
    origin, destination = Path(origin), Path(destination)
    _check_category(split, kind)
    if unit_m is not None and not 0 < unit_m < float("inf"):
        raise DataError(f"The unit is {unit_m} m; a positive length was expected, e.g. 0.001.")
    problems: list[Problem] = []
    camera = read_intrinsics(intrinsics) if intrinsics is not None else None
    reader, refs = _listing(origin, problems, unit_m, camera, lamp)
    placed: list[tuple[SampleRef, str]] = []
    for ref in refs:
        try:
            placed.append((ref, "/".join(_category(ref, split, kind))))
        except DataError as error:
            problems.append(Problem(ref.source, str(error), left_out=True))
    if strict and problems:
        raise DataError(f"Nothing was converted: {problems[0]}")
    options = {
        "split": split,
        "kind": kind,
        "unit": unit_m,
        "camera": None if camera is None else list(dataclasses.astuple(camera)),
        "lamp": lamp,
    }
    check_destination(destination)
    destination.mkdir(parents=True, exist_ok=True)
    with (
        write_lock(destination, patience_s=0, name=LOCK),
        ConversionLog(destination, options) as log,
    ):
        tasks = _tasks(log, placed)
        converted = map_in_order(
            _convert, (reader, destination), tasks, name=_source, workers=workers
        )
        try:
            with closing(converted):
                watched = progress("Converting", len(tasks), converted)
                problems += _logged(log, watched, strict=strict)
            rows = _origins(log, placed)
            if rows:
                _write_origins(destination / "origin.csv", rows)
        except OSError as cause:
            full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
            raise ArtifactError(
                f"{destination} cannot be written: {cause.strerror or cause}. {len(log.done)} of "
                f"{len(placed)} parts are complete and are kept. "
                f"{'Free some space' if full else 'Mend this'} and run the same command again."
            ) from cause
        finally:
            if not log.done:
                log.give_up()
    if not rows:
        raise DataError(
            f"Nothing in {origin} could be converted. {' '.join(map(str, problems[:3]))}"
        )
    return Conversion(destination, len(rows), tuple(problems), len(placed) - len(tasks))


def _logged(
    log: ConversionLog, converted: Iterable[tuple[_Task, Failure | None]], *, strict: bool
) -> list[Problem]:
    """Note each part that is complete, and return what is wrong with the others."""
    problems = []
    for task, failure in converted:
        if failure is None:
            log.add(Done(task.ref.source, task.stamp, task.place, task.stem))
            continue
        problems.append(Problem(task.ref.source, failure.sentence, left_out=True))
        if strict:
            raise DataError(
                f"{failure.sentence} {len(log.done)} parts are complete and are kept: mend this "
                "one, and run the same command again."
            )
    return problems


@dataclass(frozen=True, slots=True)
class _Task:
    ref: SampleRef
    stamp: str
    place: str
    stem: str


def _source(task: _Task) -> str:
    return task.ref.source


def _tasks(log: ConversionLog, placed: Sequence[tuple[SampleRef, str]]) -> list[_Task]:
    """Return what is not complete, after what is left of it and of earlier versions is removed."""
    tasks = []
    for folder in {place for _, place in placed} | {done.place for done in log.done.values()}:
        remove_halves(log.folder / folder)
    stems = log.stems([(ref.source, place) for ref, place in placed])
    for (ref, place), stem in zip(placed, stems, strict=True):
        stamp, earlier = stamp_of(ref), log.done.get(ref.source)
        if earlier is not None:
            files = _files(log.folder / earlier.place, earlier.stem)
            if (earlier.stamp, earlier.place) == (stamp, place) and files["rgb"].is_file():
                continue
            # Before it is made again, because that may fail.
            for path in files.values():
                path.unlink(missing_ok=True)
            del log.done[ref.source]
        tasks.append(_Task(ref, stamp, place, stem))
    return tasks


def _convert(shared: tuple[Any, Path], task: _Task) -> None:
    reader, destination = shared
    _write(read(reader.load, task.ref), destination / task.place, task.stem)


def _origins(log: ConversionLog, placed: Sequence[tuple[SampleRef, str]]) -> list[tuple[str, str]]:
    """Return the files that there are, with their origins."""
    found = (log.done.get(ref.source) for ref, _ in placed)
    return [(f"{done.place}/rgb/{done.stem}.png", done.source) for done in found if done]


def _write_origins(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with appearing(path) as half, half.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "origin"), *rows])


@dataclass(frozen=True, slots=True)
class _PairReader:
    """Loads colour and depth or cloud files that share a name."""

    unit_m: float | None
    camera: Intrinsics | None

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one part; raise ``DataError`` naming the file and its fault."""
        rgb = read_rgb(ref.files["rgb"])
        size = (rgb.shape[0], rgb.shape[1])
        xyz = _points_of_file(ref.files["xyz"], size, self.unit_m, self.camera)
        return checked_sample(ref, rgb=rgb, xyz=xyz, mask=None)


def _listing(
    origin: Path,
    problems: list[Problem],
    unit_m: float | None,
    camera: Intrinsics | None,
    lamp: int | None,
) -> tuple[Any, Sequence[SampleRef]]:
    """Return a reader, which has forgotten what there is, and what it is to load."""
    pairs = _sensor_pairs(origin, problems)
    if pairs is not None:
        return _PairReader(unit_m, camera), [
            SampleRef(source=str(rgb), files={"rgb": rgb, "xyz": points}) for rgb, points in pairs
        ]
    if camera is not None:
        raise DataError(
            f"{origin} already holds 3D points or names its own intrinsics; leave the given "
            "intrinsics out."
        )
    source = open_source(origin, lamp=lamp, unit_m=unit_m or 1.0)
    problems.extend(source.problems)
    return without_listing(source), source.refs


def _sensor_pairs(origin: Path, problems: list[Problem]) -> list[tuple[Path, Path]] | None:
    """Return the pairs of colour and depth or cloud files, or None for another layout."""
    rgb = image_files(origin / "rgb", RGB_SUFFIXES)
    for name in SENSOR_FOLDERS:
        # open_source reads point maps that are TIFF files in xyz/.
        suffixes = CLOUD_SUFFIXES if name == "xyz" else CLOUD_SUFFIXES | RGB_SUFFIXES
        points = image_files(origin / name, suffixes)
        if rgb and points:
            break
        if points:
            raise DataError(
                f"{origin} has {name}/ but no images in rgb/, and the MVTec 3D-AD layout holds "
                "pairs. Use a manifest with a column depth or xyz for 3D alone."
            )
    else:
        return None
    for stem in sorted(rgb.keys() ^ points.keys()):
        path = rgb.get(stem) or points[stem]
        sentence = (
            f"{path} has no partner of the name '{stem}' in "
            f"{origin / (name if stem in rgb else 'rgb')}; add it or remove the file."
        )
        problems.append(Problem(str(path), sentence, left_out=True))
    return [(rgb[stem], points[stem]) for stem in sorted(rgb.keys() & points.keys())]


def _points_of_file(
    path: Path, size: tuple[int, int], unit_m: float | None, camera: Intrinsics | None
) -> FloatArray:
    if path.suffix.lower() in CLOUD_SUFFIXES:
        return read_cloud(path, size=size, unit_m=unit_m or 1.0)
    if camera is None:
        raise DataError(
            f"{path} is a depth image, which needs the camera's intrinsics: a JSON file with fx, "
            "fy, cx and cy in pixels."
        )
    return back_project(read_depth(path, unit_m), camera)


def _check_category(split: str | None, kind: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise DataError(f"The split is '{split}'; {', '.join(SPLITS)} are possible.")
    if kind is not None and (not kind or kind[0] == "." or {"/", "\\"} & set(kind)):
        raise DataError(f"The kind is '{kind}'; it becomes a folder's name, such as 'good'.")


def _category(ref: SampleRef, split: str | None, kind: str | None) -> tuple[str, str]:
    split, kind = ref.split or split, ref.kind or kind
    if split is None or kind is None:
        raise DataError(
            f"{ref.source} lacks its split or its kind of defect; "
            "give both, e.g. split 'test' and kind 'good'."
        )
    _check_category(split, kind)
    return split, kind


def _write(sample: RGBDSample, folder: Path, stem: str) -> None:
    if sample.rgb is None or sample.xyz is None:
        raise DataError(
            f"{sample.source} has only one of colour and 3D points; the MVTec 3D-AD layout holds "
            "pairs. Use a manifest for such data."
        )
    files = _files(folder, stem)
    with appearing(files["xyz"]) as half:
        write_xyz(half, sample.xyz)
    if sample.mask is not None and folder.parent.name == "test":
        with appearing(files["mask"]) as half:
            write_mask(half, sample.mask)
    # Last: a part without it does not count.
    with appearing(files["rgb"]) as half:
        write_rgb(half, sample.rgb)


def _files(folder: Path, stem: str) -> dict[str, Path]:
    return {
        "rgb": folder / "rgb" / f"{stem}.png",
        "xyz": folder / "xyz" / f"{stem}.tiff",
        "mask": folder / "gt" / f"{stem}.png",
    }
