"""``chiasm data``: make, check and convert data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chiasm.cli.options import Lamp, Recorder, talks
from chiasm.cli.tables import only_json
from chiasm.errors import DataError
from chiasm.files.audit_text import Watching
from chiasm.files.locks import LOCK
from chiasm.samples import Problem
from chiasm.training.progress import Progress

if TYPE_CHECKING:
    from chiasm.diagnosis.readers.source import RecordingSource

app = typer.Typer(no_args_is_help=True, help="Make, check and convert data.")


@app.command()
@talks
def make(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write; each product gets a folder in it.")
    ],
    products: Annotated[
        str, typer.Option(help="Products, separated by commas; all by default.")
    ] = "",
    train: Annotated[int, typer.Option(help="Normal parts for training, per product.")] = 60,
    validation: Annotated[
        int, typer.Option(help="Normal parts for calibration, per product.")
    ] = 20,
    test_good: Annotated[int, typer.Option(help="Good test parts, per product.")] = 20,
    test_per_defect: Annotated[
        int, typer.Option(help="Defective test parts per kind of defect.")
    ] = 5,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    defect_area: Annotated[
        float,
        typer.Option(
            help="Area of the parts' defects, times the usual one: 0.005 makes them two or three "
            "pixels wide at 256 pixels."
        ),
    ] = 1.0,
    recordings: Annotated[
        int, typer.Option(help="Make this many recordings of partial discharge instead of parts.")
    ] = 0,
    sessions: Annotated[
        int, typer.Option(help="Number of sessions of the recordings; each has one class.")
    ] = 100,
    tier: Annotated[
        str,
        typer.Option(
            help="Of the recordings: easy or hard, in the layout of AI-Hub; or field, with more "
            "classes, unsteady sources and several sensors, as a table."
        ),
    ] = "easy",
    pairing: Annotated[
        str,
        typer.Option(
            help="How image and series of a recording fit: exact, jittered or mismatched."
        ),
    ] = "exact",
    classes: Annotated[
        str, typer.Option(help="Classes of the recordings, separated by commas; all by default.")
    ] = "",
    frequency: Annotated[
        float | None,
        typer.Option(help="Of the mains, tier field: 50 or 60 Hz; by session, both by default."),
    ] = None,
    polarity: Annotated[
        str, typer.Option(help="Of the series, tier field: unipolar or bipolar.")
    ] = "unipolar",
    cycles: Annotated[
        int | None,
        typer.Option(help="Mains cycles of a recording, tier field: 1200, or 2 of waveforms."),
    ] = None,
    waveform: Annotated[
        float | None,
        typer.Option(help="Values a second: sampled waveforms with their signs, tier field."),
    ] = None,
) -> None:
    """Render RGB + 3D parts as MVTec 3D-AD files, or simulate recordings of partial discharge."""
    if recordings:
        from chiasm.diagnosis.simulator.simulator import make_recordings

        with only_json(True):  # paths alone are the output
            made = make_recordings(
                folder,
                count=recordings,
                sessions=sessions,
                tier=tier,  # type: ignore[arg-type]  # make_recordings checks it
                pairing=pairing,  # type: ignore[arg-type]  # as above
                seed=seed,
                classes=tuple(name.strip() for name in classes.split(",") if name.strip()),
                frequency=frequency,
                polarity=polarity,  # type: ignore[arg-type]  # as above
                cycles=cycles,
                waveform=waveform,
            )
        typer.echo(str(made))
        return
    from chiasm.detection.scenes.maker import PRODUCTS, make_scenes

    with only_json(True):
        scenes = make_scenes(
            folder,
            products=tuple(products.split(",")) if products else PRODUCTS,
            train=train,
            validation=validation,
            test_good=test_good,
            test_per_defect=test_per_defect,
            size=size,
            seed=seed,
            defect_area=defect_area,
        )
    for path in scenes:
        typer.echo(str(path))


Workers = Annotated[
    int, typer.Option(help="Processes that read files; the result is the same.", min=1)
]


@app.command()
@talks
def check(
    path: Annotated[Path, typer.Argument(help="Folder or manifest.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lamp: Lamp = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End with status 1 if files are damaged or in two splits."),
    ] = False,
    workers: Workers = 1,
    recorder: Recorder = None,
    sample: Annotated[
        int | None,
        typer.Option(
            help="Parts, about, whose pixels are read, drawn from every split and kind; 0 reads "
            "all (default: 1000, and all with --strict). Names and the ends of files are checked "
            "of all.",
            min=0,
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures and plots to this file.")
    ] = None,
) -> None:
    """Count the samples; find broken files and leaks, and what a training would see.

    Prints counts, crop, smallest visible defect, odd parts, drift, shortcuts and what the
    calibration can promise.
    """
    from chiasm.detection.check import audit as parts
    from chiasm.detection.readers.opening import open_source
    from chiasm.diagnosis.readers import audit as recordings
    from chiasm.diagnosis.readers import opening

    report: parts.AuditReport | recordings.AuditReport
    if recorder or opening.is_diagnosis_data(path):
        recorded = opening.open_source(path, recorder=recorder or ())
        report = recordings.audit(recorded, workers=workers, progress=_watching("recordings"))
        if html is not None:
            from chiasm.diagnosis.report import check_page

            check_page.write_page(
                report, recorded, html, repeat=_command(path, html, recorder=recorder or ())
            )
    else:
        source = open_source(path, lamp=lamp)
        report = parts.audit(
            source,
            workers=workers,
            sample=(0 if strict else parts.SAMPLE) if sample is None else sample,
            progress=_watching("files"),
        )
        if html is not None:
            from chiasm.detection.report.check_page import write_page

            write_page(report, source, html, repeat=_command(path, html, lamp))
    typer.echo(report.to_json() if json else report.to_text())
    if strict and not report.sound:
        raise typer.Exit(1)


def _command(path: Path, html: Path, lamp: Any = None, recorder: Sequence[str] = ()) -> str:
    """Return the command that writes a check's page."""
    words = ["chiasm", "data", "check", str(path), "--html", str(html)]
    words += [] if lamp is None else ["--lamp", str(lamp)]
    return shlex.join(words + [word for text in recorder for word in ("--recorder", text)])


@app.command()
@talks
def convert(
    origin: Annotated[
        Path,
        typer.Argument(help="Parts: a folder with rgb/ and depth/, ply/ or pcd/; or recordings."),
    ],
    destination: Annotated[
        Path, typer.Argument(help="Folder to write, or one of the same conversion to go on with.")
    ],
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    kind: Annotated[str | None, typer.Option(help="good, or the kind of defect.")] = None,
    unit: Annotated[
        float | None,
        typer.Option(help="Metres of one unit of the 3D data; 1 by default.", min=0),
    ] = None,
    intrinsics: Annotated[
        Path | None,
        typer.Option(
            help="Camera of depth, or of clouds without a grid: a JSON, YAML, .mat or text file "
            "with fx, fy, cx, cy in pixels or a 3 x 3 matrix."
        ),
    ] = None,
    colour_intrinsics: Annotated[
        Path | None,
        typer.Option(
            help="Of a colour camera beside the depth camera: its own file as --intrinsics, where "
            "colours are not yet registered."
        ),
    ] = None,
    extrinsic: Annotated[
        Path | None,
        typer.Option(
            help="Where the colour camera stands: JSON or YAML of a 4 x 4 matrix, or rotation and "
            "translation, from the depth camera to it, in metres."
        ),
    ] = None,
    pitch: Annotated[
        float | None,
        typer.Option(help="Of a height map: metres between columns, and rows.", min=0),
    ] = None,
    pitch_y: Annotated[
        float | None, typer.Option(help="Metres between rows, where it differs.", min=0)
    ] = None,
    offset: Annotated[float, typer.Option(help="Metres added to the heights.")] = 0.0,
    up: Annotated[
        bool,
        typer.Option("--up/--down", help="Heights grow towards the sensor, or away from it."),
    ] = True,
    missing: Annotated[
        list[float] | None,
        typer.Option(help="Value that marks what was not measured; may be repeated."),
    ] = None,
    intensity: Annotated[
        bool,
        typer.Option(
            "--intensity/--no-intensity", help="Intensities in 3D files become the grey image."
        ),
    ] = True,
    bits: Annotated[
        int | None,
        typer.Option(
            help="Bits that the camera used of the 16 of its images; told by the brightest.",
            min=8,
            max=16,
        ),
    ] = None,
    lamp: Lamp = None,
    recorder: Recorder = None,
    workers: Workers = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")
    ] = False,
) -> None:
    """Convert parts into the MVTec 3D-AD layout, or recordings into a store; resumes.

    Parts are depth images, height maps, point maps, tables, PLY or PCD, or any other layout in
    another unit. The same command again makes what is missing, what was mended and what has
    changed.
    """
    from chiasm.detection.readers.sensor_folders import is_range_file, sensor_refs
    from chiasm.detection.sensors.pairing import Pairing
    from chiasm.diagnosis.readers import opening

    of_sensor = {
        "--unit": unit,
        "--intrinsics": intrinsics,
        "--colour-intrinsics": colour_intrinsics,
        "--extrinsic": extrinsic,
        "--pitch": pitch,
        "--missing": missing or None,
        "--down": None if up else True,
    }
    # A table of numbers may be heights or a series: the options of a sensor tell.
    told_parts = any(value is not None for value in of_sensor.values())
    of_parts = is_range_file(origin) if origin.is_file() else False
    if told_parts and origin.is_dir() and not recorder:
        of_parts = bool(sensor_refs(origin, Pairing()))
    if recorder or (not of_parts and opening.is_diagnosis_data(origin)):
        options = {"--split": split, "--kind": kind, **of_sensor, "--bits": bits, "--lamp": lamp}
        if given := [name for name, value in options.items() if value is not None]:
            raise DataError(f"{origin} holds recordings, which have no {given[0]}; leave it out.")
        source = opening.open_source(origin, recorder=recorder or ())
        _convert_recordings(source, destination, workers=workers, strict=strict)
        return
    from chiasm.detection.readers.convert import convert as convert_files
    from chiasm.detection.readers.range_image import RangeSettings

    options_given = {
        "split": split,
        "kind": kind,
        "unit": unit,
        "intrinsics": intrinsics,
        "colour_intrinsics": colour_intrinsics,
        "extrinsic": extrinsic,
        "pitch": pitch,
        "pitch_y": pitch_y,
        "offset": offset or None,
        "down": not up,
        "missing": tuple(missing or ()),
        "no_intensity": not intensity,
        "bits": bits,
        "lamp": lamp,
        "strict": strict,
    }
    told = _told(origin, destination, options_given)
    kind, unit, intrinsics, pitch = (told[n] for n in ("kind", "unit", "intrinsics", "pitch"))
    settings = RangeSettings(
        missing=tuple(missing or ()),
        pitch_x=pitch,
        pitch_y=pitch_y,
        offset_m=offset,
        up=up,
        intensity=intensity,
    )
    conversion = convert_files(
        origin,
        destination,
        split=split,
        kind=kind,
        unit_m=unit,
        intrinsics=intrinsics,
        colour_intrinsics=colour_intrinsics,
        extrinsic=extrinsic,
        lamp=lamp,
        settings=settings,
        bits=bits,
        workers=workers,
        strict=strict,
        progress=_watching("parts"),
    )
    for sentence, count in conversion.remarks:
        parts = "1 part" if count == 1 else f"{count} parts"
        typer.echo(f"note: {sentence} (in {parts})", err=True)
    before = f", {conversion.kept} of them before" if conversion.kept else ""
    typer.echo(f"{conversion.written} samples were written to {conversion.root}{before}.")
    if told != options_given:
        from chiasm.detection.check.missing_facts import convert_command

        typer.echo(f"To repeat this: {convert_command(origin, destination, told)}")
    _tell_left_out(conversion.problems, "samples or files")


def _told(origin: Path, destination: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options with what the files lack: asked at a terminal, else refused at once."""
    from chiasm.detection.check.missing_facts import (
        missing_facts,
        missing_facts_error,
        survey_sensor_files,
        with_answers,
    )

    facts = missing_facts(survey_sensor_files(origin), given)
    if not facts:
        return given
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise missing_facts_error(facts, origin, destination, given)
    answers = {}
    for fact in facts:
        typer.echo(fact.why, err=True)
        answers[fact.name] = typer.prompt(fact.question, default=fact.guess or None, err=True)
    return with_answers(given, answers)


def _convert_recordings(
    source: RecordingSource, destination: Path, *, workers: int, strict: bool
) -> None:
    from chiasm.diagnosis.readers.journal import INDEX, JOURNAL
    from chiasm.diagnosis.readers.store import convert

    own = (INDEX, JOURNAL, LOCK)
    if destination.is_dir():
        names = [path.name for path in destination.iterdir()]
        if names and not set(names) & set(own):
            raise DataError(f"{destination} is not empty; name a new folder so that nothing mixes.")
    left_out = [problem for problem in source.problems if problem.left_out]
    if strict and left_out:
        raise DataError(f"Nothing was converted: {left_out[0]}")
    with Progress("Converting", len(source.refs), unit="recordings", stream=sys.stderr) as line:
        store = convert(
            source,
            destination,
            workers=workers,
            strict=strict,
            patience_s=0,
            progress=lambda done, _: line.update(done - line.count),
        )
    typer.echo(f"{len(store.refs)} recordings are in the store {destination}.")
    _tell_left_out([problem for problem in store.problems if problem.left_out], "recordings")


def _tell_left_out(problems: Sequence[Problem], noun: str) -> None:
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    if problems:
        typer.echo(f"{len(problems)} {noun} were left out.", err=True)


def _watching(unit: str) -> Watching:
    """Return what shows a line for each stage, on standard error: the report is the output."""

    def watch(stage: str, count: int, items: Iterable[Any]) -> Iterator[Any]:
        with Progress(stage, count, unit=unit, stream=sys.stderr) as line:
            yield from line.over(items)

    return watch
