"""Predict verdicts on new parts: a table of them and heat maps."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from chiasm.detection.prediction.outcomes import COLUMNS, outcome_of, say_summary
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.detection.readers.opening import open_as_trained, unnamed_lamp
from chiasm.detection.readers.source import Lamp, SampleRef, SampleSource
from chiasm.detection.report.overlay import HeatScale, heat_overlay
from chiasm.errors import ChiasmError, DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.runs.console import say
from chiasm.runs.tally import Tally
from chiasm.samples import RGBDSample, Verdict


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "verdicts",
    lamp: Lamp | None = None,
    xyz: Path | str | None = None,
    keep_maps: bool = True,
    device: str = "auto",
) -> list[Verdict]:
    """Predict verdicts on new parts; write ``verdicts.csv``, ``verdicts.json`` and heat maps.

    Args:
        run: a run's or a model's folder.
        inputs: folder, manifest, or one RGB file (then ``xyz`` names its 3D file).
        out: folder for the results.
        lamp: number of the lamp, for data with several; ``"all"`` takes all of them. None takes
            the lamp that the run saw its parts under.
        xyz: the 3D file of a single RGB file.
        keep_maps: whether the verdicts that are returned have their anomaly maps; without, memory
            grows by a row a part.
        device: that predicts, see ``find_device``.

    A part that cannot be read gets a row with ``error``, and the others are still scored. Heat maps
    of an earlier prediction in ``out`` are removed.

    Raises:
        DataError: no part could be scored.
    """
    predictor = DetectionPredictor.load(run, device=device)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    _remove_earlier(target)
    scale = HeatScale.of(predictor.contract.calibration_scores, predictor.display_threshold)
    verdicts: list[Verdict] = []
    rows: list[dict[str, Any]] = []
    tally = Tally()
    samples, remarks = _samples(Path(inputs), predictor.acquisition, xyz=xyz, lamp=lamp)
    for remark in remarks:
        say(remark)
    for name, sample in samples:
        verdict = next(predictor.predict_all([(name, sample)]))
        picture = ""
        if verdict.anomaly_map is not None and isinstance(sample, RGBDSample):
            picture = f"{len(rows):04d}_{Path(verdict.source).stem}.png"
            heat_map = heat_overlay(verdict.anomaly_map, sample, scale=scale)
            cv2.imwrite(str(target / picture), heat_map)
        for judged in verdict.parts or (verdict,):
            outcome = outcome_of(judged)
            tally.add(outcome, len(rows))
            rows.append({**outcome.row, "picture": picture})
            verdicts.append(judged if keep_maps else replace(judged, anomaly_map=None))
    (target / "verdicts.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "verdicts.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*COLUMNS, "picture"])
        writer.writeheader()
        writer.writerows(rows)
    say_summary(tally, target, promise=predictor.alarm_rule.promise)
    return verdicts


def _remove_earlier(folder: Path) -> None:
    """Remove the heat maps that an earlier table names, so that none is taken for a new one."""
    table = folder / "verdicts.json"
    try:
        rows = json.loads(table.read_text())
        pictures = [str(row.get("picture", "")) for row in rows]
    except (OSError, ValueError, AttributeError, TypeError):
        return
    for name in pictures:
        if name and Path(name).name == name:
            (folder / name).unlink(missing_ok=True)


def _samples(
    path: Path, acquisition: Acquisition | None, *, xyz: Path | str | None, lamp: Lamp | None
) -> tuple[Iterator[tuple[str, RGBDSample | ChiasmError]], tuple[str, ...]]:
    """Return the samples of a path, and in what it differs from what the run saw."""
    if path.is_file() and path.suffix.lower() in RGB_SUFFIXES:
        return _single(path, xyz), unnamed_lamp(acquisition)
    source, remarks = open_as_trained(path, acquisition, lamp=lamp)
    return _read(source, source.refs), remarks


def _single(path: Path, xyz: Path | str | None) -> Iterator[tuple[str, RGBDSample | ChiasmError]]:
    try:
        yield str(path), sample_from_arrays(path, xyz, source=str(path))
    except ChiasmError as error:
        yield str(path), error


def _read(
    source: SampleSource, refs: Iterable[SampleRef]
) -> Iterator[tuple[str, RGBDSample | ChiasmError]]:
    for ref in refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error
    for problem in source.problems:
        yield problem.source, DataError(problem.sentence)
