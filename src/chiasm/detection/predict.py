"""Predict verdicts on new parts: tables of them and of their regions, heat maps, other files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from chiasm.detection.decision import AlarmRule
from chiasm.detection.prediction.outcomes import (
    REGION_TABLE,
    flat_row,
    outcome_of,
    row_of,
    say_summary,
    table_columns,
    write_meanings,
)
from chiasm.detection.prediction.part_files import (
    COCO,
    PartFiles,
    file_stem,
    png_bytes,
    write_coco,
)
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.products.data import open_for, with_product
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.detection.readers.opening import unnamed_lamp
from chiasm.detection.readers.source import Lamp, SampleRef, SampleSource
from chiasm.detection.report.overlay import HeatScale, heat_overlay
from chiasm.errors import ChiasmError, ConfigurationError, DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.runs.console import say
from chiasm.runs.tally import Tally
from chiasm.samples import RGBDSample, Verdict
from chiasm.training.progress import Progress

_FILES = ("picture", "map", "mask")  # columns that name files of a part
Named = tuple[str, RGBDSample | ChiasmError]
Read = tuple[str, RGBDSample | ChiasmError, tuple[str, ...]]  # and the files that it was read from


class PartModel(Protocol):
    """A trained or exported detector, as predictions use it."""

    @property
    def products(self) -> tuple[str, ...]:
        """Products that it tells apart; () of a model of one."""
        ...

    @property
    def promise(self) -> str:
        """What is promised of false alarms."""
        ...

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        """Return the rule that decided on a part."""
        ...

    @property
    def acquisition(self) -> Acquisition | None:
        """How the model's run saw its normal parts."""
        ...

    def predict_all(self, samples: Iterable[RGBDSample | Named]) -> Iterator[Verdict]:
        """Predict the verdicts on many samples, one after the other."""
        ...


def predict(
    model: PartModel | Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "verdicts",
    lamp: Lamp | None = None,
    xyz: Path | str | None = None,
    keep_maps: bool = True,
    files: PartFiles | None = None,
    device: str = "auto",
) -> list[Verdict]:
    """Predict verdicts on new parts; write tables of parts and regions, and heat maps.

    ``verdicts.csv`` and ``verdicts.json`` have a row for each part, ``regions.csv`` one for each
    region; ``columns.md`` says what is in them.

    Args:
        model: trained or exported; or a run's or a model's folder.
        inputs: folder, manifest, or one RGB file (then ``xyz`` names its 3D file).
        out: folder for the results.
        lamp: number of the lamp, for data with several; ``"all"`` takes all of them. None takes
            the lamp that the run saw its parts under.
        xyz: the 3D file of a single RGB file.
        keep_maps: whether the verdicts that are returned have their anomaly maps; without, memory
            grows by a row a part.
        files: which further files are written to ``out``; None writes none.
        device: on which a folder's model predicts, see ``find_device``.

    A part that cannot be read gets a row with ``error``, and the others are still scored. Heat maps
    and other files of an earlier prediction in ``out`` are removed.

    Raises:
        DataError: no part could be scored.
    """
    if isinstance(model, Path | str):
        from chiasm.detection.predictor import DetectionPredictor  # PyTorch

        model = DetectionPredictor.load(model, device=device)
    samples, count, remarks = _samples(Path(inputs), model, xyz=xyz, lamp=lamp)
    for remark in remarks:
        say(remark)
    return _judge(model, samples, count, out=Path(out), keep_maps=keep_maps, files=files)


def predict_parts(
    model: PartModel,
    parts: Iterable[Any],
    *,
    out: Path | str | None = None,
    keep_maps: bool = True,
    files: PartFiles | None = None,
) -> list[Verdict]:
    """Predict verdicts on parts that a caller hands over, in their order.

    A part that cannot be read or judged gets a verdict with ``error``.

    Args:
        model: trained or exported.
        parts: each a sample; a path, an array ``(H, W, 3)`` or a picture of RGB; a pair of RGB and
            xyz, each as a path or an array; or the arguments of a model's call by name.
        out: folder for tables and heat maps as ``predict`` writes them; None writes nothing.
        keep_maps: whether the verdicts have their anomaly maps.
        files: which further files are written to ``out``.

    Raises:
        DataError: there is an ``out``, and no part could be scored.
    """
    count = len(parts) if isinstance(parts, Sized) else 0
    samples = (_sample_of(part, number) for number, part in enumerate(parts, start=1))
    target = None if out is None else Path(out)
    return _judge(model, samples, count, out=target, keep_maps=keep_maps, files=files)


def _sample_of(part: Any, number: int) -> Read:
    if isinstance(part, RGBDSample):
        return part.source or f"part {number}", part, ()
    named: dict[str, Any] = {"rgb": part, "xyz": None}
    if isinstance(part, Mapping):
        named |= {"rgb": None, **part}
    elif isinstance(part, tuple | list):
        named |= dict(zip(("rgb", "xyz"), part))
    paths = (named.get(role) for role in ("rgb", "xyz", "depth"))
    files = tuple(str(path) for path in paths if isinstance(path, Path | str))
    named["source"] = source = named.get("source") or (*files, f"part {number}")[0]
    try:
        if isinstance(part, tuple | list) and len(part) != 2:
            raise DataError(
                f"{source} is a sequence of {len(part)}; a part is a pair of RGB and xyz, an array "
                "(H, W, 3), a path, or a mapping of a call's arguments."
            )
        return source, sample_from_arrays(**named), files
    except ChiasmError as error:
        return source, error, files
    except TypeError as error:
        raise ConfigurationError(
            f"{source} names an argument that there is not ({error}); a part has rgb, xyz, depth, "
            "intrinsics, depth_unit and source."
        ) from error


def _judge(
    model: PartModel,
    samples: Iterable[Read],
    count: int,
    *,
    out: Path | None,
    keep_maps: bool,
    files: PartFiles | None,
) -> list[Verdict]:
    """Predict one verdict a sample, and write what is asked for; 0 is an unknown count."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _remove_earlier(out)
        files = files or PartFiles(out)
    verdicts: list[Verdict] = []
    rows: list[dict[str, Any]] = []
    tally = Tally()
    used: Counter[str] = Counter()
    with Progress("Predicting", count) as progress:
        for source, sample, read in progress.over(samples):
            verdict = next(model.predict_all([(source, sample)]))
            # Of a frame that is split, each part has a row of its own.
            for judged in verdict.parts or (verdict,):
                verdicts.append(judged if keep_maps else replace(judged, anomaly_map=None))
                if out is None or files is None:
                    continue
                name = file_stem(judged.source, read)
                used[name] += 1
                if used[name] > 1:  # a list may hold a part twice
                    name = f"{name}-{used[name]}"
                row = files.write_row(judged, row_of(judged), name=name) | {"picture": None}
                if judged.anomaly_map is not None and isinstance(sample, RGBDSample):
                    row["picture"] = f"{name}.png"
                    rule = model.rule_for(judged)
                    scale = HeatScale.of(rule.calibration_scores, rule.display_threshold)
                    heat_map = heat_overlay(judged.anomaly_map, sample, scale=scale)
                    (out / row["picture"]).write_bytes(png_bytes(heat_map))
                tally.add(outcome_of(judged, row=row), len(rows))
                rows.append(row)
    if out is not None and files is not None:
        _write_tables(rows, out)
        if files.coco:
            write_coco(rows, out / COCO)
        say_summary(tally, out, promise=model.promise)
    return verdicts


def _write_tables(rows: list[dict[str, Any]], folder: Path) -> None:
    (folder / "verdicts.json").write_text(json.dumps(rows, indent=2) + "\n")
    regions = (
        {**row, **region, "region": number}
        for row in rows
        for number, region in enumerate(row["regions"], start=1)
    )
    for name, columns, lines in (
        ("verdicts.csv", table_columns(rows), map(flat_row, rows)),
        ("regions.csv", REGION_TABLE, regions),
    ):
        with (folder / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(lines)
    write_meanings(folder)


def _remove_earlier(folder: Path) -> None:
    """Remove the files that an earlier table names, so that none is taken for a new one."""
    (folder / COCO).unlink(missing_ok=True)
    try:
        rows = json.loads((folder / "verdicts.json").read_text())
        names = [str(row.get(column) or "") for row in rows for column in _FILES]
    except (OSError, ValueError, AttributeError, TypeError):
        return
    inside = folder.resolve()
    for name in names:
        path = folder / name
        # A table from elsewhere must not name files from elsewhere.
        if name and path.resolve().parent in (inside, inside / "maps", inside / "masks"):
            path.unlink(missing_ok=True)


def _samples(
    path: Path, model: PartModel, *, xyz: Path | str | None, lamp: Lamp | None
) -> tuple[Iterator[Read], int, tuple[str, ...]]:
    """Return the samples of a path, their number, and in what it differs from the run's."""
    if path.is_file() and path.suffix.lower() in RGB_SUFFIXES:
        return _single(path, xyz), 1, unnamed_lamp(model.acquisition)
    source, remarks = open_for(model, path, lamp=lamp)
    return _read(source, source.refs), len(source.refs) + len(source.problems), remarks


def _single(path: Path, xyz: Path | str | None) -> Iterator[Read]:
    files = tuple(str(file) for file in (path, xyz) if file is not None)
    try:
        yield str(path), sample_from_arrays(path, xyz, source=str(path)), files
    except ChiasmError as error:
        yield str(path), error, files


def _read(source: SampleSource, refs: Iterable[SampleRef]) -> Iterator[Read]:
    for ref in refs:
        files = tuple(str(file) for file in ref.files.values())
        try:
            yield ref.source, with_product(source.load(ref), ref), files
        except ChiasmError as error:
            yield ref.source, error, files
    for problem in source.problems:
        yield problem.source, DataError(problem.sentence), ()
