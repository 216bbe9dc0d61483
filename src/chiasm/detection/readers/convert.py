"""Convert readable samples of any layout into the MVTec 3D-AD layout."""

from __future__ import annotations

import csv
import errno
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from chiasm.detection.readers.camera import read_intrinsics
from chiasm.detection.readers.checked_sample import bits_of, checked_sample
from chiasm.detection.readers.conversion_log import (
    LOCK,
    ConversionLog,
    Done,
    check_destination,
    stamp_of,
)
from chiasm.detection.readers.mvtec3d import SPLITS
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.range_image import RangeSettings, read_range
from chiasm.detection.readers.sensor_folders import refuse_unread, sensor_refs
from chiasm.detection.readers.sensor_part import size_of_colours, with_colours
from chiasm.detection.readers.source import SampleRef, remarks_of
from chiasm.detection.sensors.pairing import Pairing, of_lamp
from chiasm.detection.sensors.registration import ColourView, read_extrinsic
from chiasm.errors import ArtifactError, DataError
from chiasm.files.appearing import appearing, remove_halves
from chiasm.files.audit_text import Watching, read, unwatched_stage
from chiasm.files.bit_depth import bit_depth
from chiasm.files.images import read_mask, read_rgb, write_mask, write_rgb, write_xyz
from chiasm.files.locks import write_lock
from chiasm.files.readers import find_reader, without_listing
from chiasm.files.remarks import Remarks
from chiasm.runs.ordered_map import Failure, map_in_order
from chiasm.samples import Problem, RGBDSample


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        root: the new folder.
        written: number of parts in it.
        problems: one for each part or file that was left out.
        kept: number of parts that were complete before.
        remarks: what was assumed or lost, with the number of parts that it is said of.
    """

    root: Path
    written: int
    problems: tuple[Problem, ...]
    kept: int = 0
    remarks: tuple[tuple[str, int], ...] = ()


def convert(
    origin: Path | str,
    destination: Path | str,
    *,
    split: str | None = None,
    kind: str | None = None,
    unit_m: float | None = None,
    intrinsics: Path | str | None = None,
    colour_intrinsics: Path | str | None = None,
    extrinsic: Path | str | None = None,
    lamp: int | None = None,
    settings: RangeSettings = RangeSettings(),  # noqa: B008  # it is frozen
    bits: int | None = None,
    workers: int = 1,
    strict: bool = False,
    progress: Watching = unwatched_stage,
) -> Conversion:
    """Write samples as ``destination/{split}/{kind}/{rgb,xyz,gt}/NNN``, or go on with that.

    ``origin`` is a path that ``open_source`` reads, or a folder with ``rgb/`` and one of
    ``depth/`` (needs ``intrinsics``), ``height/``, ``ply/``, ``pcd/``, ``cloud/``, where the files
    of one part share a name; without ``rgb/``, the colours in the clouds are taken, or 3D alone.
    Such folders may lie below ``{split}/{kind}``. ``split`` and ``kind`` are used for parts whose
    origin has none; parts with neither, of unknown quality, lie in ``destination/{rgb,xyz}``.
    ``unit_m`` is the length in metres of one depth count or of the points' unit; None takes
    metres, and refuses integer counts of depth. Colours are written with 8 bits, or with 16 where
    8 do not hold them.
    Parts that cannot be read are left out, and their numbers are free until they can be;
    ``origin.csv`` lists the origin of each file. The same call on the same destination makes
    what is missing, and what has changed at the origin.

    Args:
        origin, destination, split, kind, unit_m, intrinsics, lamp: see above.
        colour_intrinsics, extrinsic: files of the colour camera, and of the motion from the depth
            camera to it, of colours that were not registered.
        settings: of 3D files, beside unit and intrinsics.
        bits: that the camera used of the 16 of its images; None looks at the brightest value.
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
    if unit_m is not None:
        settings = replace(settings, unit_m=unit_m)
    if intrinsics is not None:
        settings = replace(settings, camera=read_intrinsics(intrinsics))
    colours = _colour_view(colour_intrinsics, extrinsic)
    problems: list[Problem] = []
    said: list[str] = []
    reader, refs = _listing(origin, problems, said, settings, colours, lamp)
    remarks = Remarks()
    remarks.add(said, len(refs))
    depth = bit_depth([ref.files["rgb"] for ref in refs if "rgb" in ref.files])
    if bits is None and depth is not None:
        bits = depth.bits
        sentence = depth.in_words()
        remark = (
            f"{sentence[0].upper()}{sentence[1:]}: colours were scaled by them. Give --bits {bits} "
            "for later parts of this camera too (--bits 16 takes the whole range)."
        )
        remarks.add([remark], len(refs))
    if bits is not None:
        refs = [replace(ref, extra={**ref.extra, "bits": str(bits)}) for ref in refs]
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
        "lamp": lamp,
        **_options(settings),
        "bits": None if bits is None else bits % 16 or None,
        "colours": None if colours is None else repr(colours),
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
                problems += _logged(log, watched, remarks, strict=strict)
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
    return Conversion(
        destination,
        len(rows),
        tuple(problems),
        len(placed) - len(tasks),
        remarks.counted(),
    )


def _colour_view(intrinsics: Path | str | None, extrinsic: Path | str | None) -> ColourView | None:
    """Return the camera of colours that are to be registered; None where they are."""
    if intrinsics is None and extrinsic is None:
        return None
    if intrinsics is None or extrinsic is None:
        lacking = "colour-intrinsics" if intrinsics is None else "extrinsic"
        raise DataError(
            "Colours of another camera need the intrinsics of this camera and the extrinsic from "
            f"the depth camera to it; {lacking} is not given."
        )
    motion = read_extrinsic(extrinsic)
    return ColourView(read_intrinsics(intrinsics, colour=True), tuple(map(tuple, motion.tolist())))


def _layout(path: Path) -> str:
    entry = find_reader("detection", path)
    return "of no known layout" if entry is None else entry.layout


def _options(settings: RangeSettings) -> dict[str, Any]:
    """Return what makes files of one conversion differ from those of another, as JSON values."""
    default = asdict(RangeSettings())
    values = {name: value for name, value in asdict(settings).items() if value != default[name]}
    unit, camera = values.pop("unit_m", None), settings.camera
    values.pop("camera", None)
    numbers = None
    if camera is not None:
        numbers = [camera.fx, camera.fy, camera.cx, camera.cy]
        facts = (camera.width, camera.height, list(camera.distortion), camera.depth_unit)
        numbers += [fact for fact in facts if fact]  # type: ignore[misc]
    if "missing" in values:
        values["missing"] = list(values["missing"])
    return {"unit": unit, "camera": numbers, "range": values or None}


def _logged(
    log: ConversionLog,
    converted: Iterable[tuple[_Task, Failure | tuple[str, ...]]],
    remarks: Remarks,
    *,
    strict: bool,
) -> list[Problem]:
    """Note each part that is complete, and return what is wrong with the others."""
    problems = []
    for task, failure in converted:
        if not isinstance(failure, Failure):
            remarks.add(failure)
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
            last = files["rgb" if "rgb" in ref.files else "xyz"]
            if (earlier.stamp, earlier.place) == (stamp, place) and last.is_file():
                continue
            # Before it is made again, because that may fail.
            for path in files.values():
                path.unlink(missing_ok=True)
            del log.done[ref.source]
        tasks.append(_Task(ref, stamp, place, stem))
    return tasks


def _convert(shared: tuple[Any, Path], task: _Task) -> tuple[str, ...]:
    """Write one part, and return what was assumed or lost."""
    reader, destination = shared
    sample = read(reader.load, task.ref)
    _write(sample, destination / task.place, task.stem)
    return sample.notes


def _origins(log: ConversionLog, placed: Sequence[tuple[SampleRef, str]]) -> list[tuple[str, str]]:
    """Return the files that there are, with their origins."""
    rows = []
    for ref, _ in placed:
        done = log.done.get(ref.source)
        if done is not None:
            files = _files(log.folder / done.place, done.stem)
            main = files["rgb"] if "rgb" in ref.files or files["rgb"].is_file() else files["xyz"]
            rows.append((main.relative_to(log.folder).as_posix(), done.source))
    return rows


def _write_origins(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with appearing(path) as half, half.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "origin"), *rows])


@dataclass(frozen=True, slots=True)
class _SensorReader:
    """Loads parts of colour and 3D files in any format."""

    settings: RangeSettings
    colours: ColourView | None = None

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one part; raise ``DataError`` naming the file and its fault."""
        files = ref.files
        rgb = read_rgb(files["rgb"], bits_of(ref)) if "rgb" in files else None
        if rgb is not None and files["rgb"].read_bytes() == files["xyz"].read_bytes():
            raise DataError(
                f"{files['rgb']} and {files['xyz']} are the same file: one of colour and one of "
                "depth were expected."
            )
        image = read_range(files["xyz"], self.settings, size_of_colours(rgb, self.colours))
        mask = read_mask(files["mask"]) if "mask" in files else None
        rgb, mask, notes = with_colours(
            image,
            rgb,
            mask,
            colours=self.colours,
            depth_camera=self.settings.camera,
            name=str(files["xyz"]),
        )
        sample = checked_sample(ref, rgb=rgb, xyz=image.xyz, mask=mask)
        return replace(sample, notes=notes)


def _listing(
    origin: Path,
    problems: list[Problem],
    remarks: list[str],
    settings: RangeSettings,
    colours: ColourView | None,
    lamp: int | None,
) -> tuple[Any, Sequence[SampleRef]]:
    """Return a reader, which has forgotten what there is, and what it is to load."""
    found = Pairing()
    # Readers of point maps know nothing of markers and heights.
    told = replace(settings, unit_m=None, camera=None) != RangeSettings()
    refs = sensor_refs(origin, found, all_points=told)
    problems += found.problems
    if refs is not None:
        remarks += found.remarks
        refs, _ = of_lamp(refs, lamp, remarks, str(origin), "a folder of colours and 3D files")
        return _SensorReader(settings, colours), refs
    if colours is not None:
        raise DataError(
            f"{origin} is {_layout(origin)}, whose colours and points are of the same pixels; "
            "leave out colour-intrinsics and extrinsic, or give a folder with colours and depth."
        )
    if origin.is_dir():
        refuse_unread(origin)
    if settings.camera is not None:
        raise DataError(
            f"{origin} already holds 3D points or names its own intrinsics; leave the given "
            "intrinsics out."
        )
    if told:
        raise DataError(
            f"{origin} is {_layout(origin)}, whose 3D files are read as they are: leave out what "
            "was given on missing values, pitch, offset and direction."
        )
    source = open_source(origin, lamp=lamp, unit_m=settings.unit_m)
    problems.extend(source.problems)
    remarks += remarks_of(source)
    return without_listing(source), source.refs


def _check_category(split: str | None, kind: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise DataError(f"The split is '{split}'; {', '.join(SPLITS)} are possible.")
    if kind is not None and (not kind or kind[0] == "." or {"/", "\\"} & set(kind)):
        raise DataError(f"The kind is '{kind}'; it becomes a folder's name, such as 'good'.")


def _category(ref: SampleRef, split: str | None, kind: str | None) -> tuple[str, ...]:
    """Return split and kind of a part, or nothing for one of unknown quality.

    Parts to train or calibrate on are good where nobody says otherwise.
    """
    split, kind = ref.split or split, ref.kind or kind
    if not split and not kind:
        return ()
    if split in ("train", "validation"):
        kind = kind or "good"
    if not split or not kind:
        raise DataError(
            f"{ref.source} has a {'split' if split else 'kind'} and no "
            f"{'kind of defect' if split else 'split'}; give both, e.g. split 'test' and kind "
            "'good', or none for parts of unknown quality."
        )
    _check_category(split, kind)
    return split, kind


def _write(sample: RGBDSample, folder: Path, stem: str) -> None:
    files = _files(folder, stem)
    if sample.xyz is not None:
        with appearing(files["xyz"]) as half:
            write_xyz(half, sample.xyz)
    if sample.mask is not None and folder.parent.name == "test":
        with appearing(files["mask"]) as half:
            write_mask(half, sample.mask)
    # Last: a part without it does not count, unless it is 3D alone.
    if sample.rgb is not None:
        with appearing(files["rgb"]) as half:
            write_rgb(half, sample.rgb, exact=True)


def _files(folder: Path, stem: str) -> dict[str, Path]:
    return {
        "rgb": folder / "rgb" / f"{stem}.png",
        "xyz": folder / "xyz" / f"{stem}.tiff",
        "mask": folder / "gt" / f"{stem}.png",
    }
