"""Predict verdicts on new parts: a table of them and heat maps."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2

from chiasm.detection.contract import acquisition_of
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.detection.readers.opening import open_as_trained, unnamed_lamp
from chiasm.detection.readers.source import Lamp, SampleRef, SampleSource
from chiasm.detection.report.overlay import HeatScale, heat_overlay
from chiasm.errors import ChiasmError, DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.runs.console import MAX_LISTED, failure_reason, report_failures, say
from chiasm.samples import RGBDSample, Verdict


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "verdicts",
    lamp: Lamp | None = None,
    xyz: Path | str | None = None,
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
    pictures: list[str] = []
    notes: Counter[str] = Counter()
    samples, remarks = _samples(
        Path(inputs), acquisition_of(Path(run), predictor.contract), xyz=xyz, lamp=lamp
    )
    for remark in remarks:
        say(remark)
    for name, sample in samples:
        verdict = next(predictor.predict_all([(name, sample)]))
        verdicts.append(verdict)
        notes.update(verdict.notes)
        pictures.append("")
        if verdict.anomaly_map is not None and isinstance(sample, RGBDSample):
            picture = heat_overlay(verdict.anomaly_map, sample, scale=scale)
            pictures[-1] = f"{len(verdicts) - 1:04d}_{Path(verdict.source).stem}.png"
            cv2.imwrite(str(target / pictures[-1]), picture)
    rows = [{**_row(v), "picture": picture} for v, picture in zip(verdicts, pictures)]
    (target / "verdicts.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "verdicts.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    bad = sum(v.defective is True for v in verdicts)
    failures = [failure_reason(v) for v in verdicts if v.error]
    undecided = sum(v.defective is None for v in verdicts) - len(failures)
    said = [f"{bad} defective", *([f"{undecided} undecided"] if undecided else [])]
    said.append(f"{len(failures)} not judged")
    say(f"{len(verdicts)} parts: {', '.join(said)}. See {target}.")
    say(predictor.alarm_rule.promise)
    for verdict in verdicts if len(verdicts) <= MAX_LISTED else ():
        if not verdict.error:
            say(f"{verdict.source}: {_in_words(verdict)}")
    for note, count in notes.items():
        say(f"{count} of {len(verdicts)} parts: {note}")
    report_failures(failures, succeeded=len(verdicts) - len(failures), noun="parts")
    return verdicts


def _in_words(verdict: Verdict) -> str:
    if verdict.defective is None:
        return f"undecided, score {verdict.score:.3g}"
    decision = "defective" if verdict.defective else "good"
    return f"{decision}, score {verdict.score:.3g}, p-value {verdict.p_value:.3f}"


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


def _row(verdict: Verdict) -> dict[str, Any]:
    def json_number(x: float) -> float | None:
        return None if math.isnan(x) else x

    return {
        "source": verdict.source,
        "score": json_number(verdict.score),
        "p_value": json_number(verdict.p_value),
        "defective": verdict.defective,
        "notes": " ".join(verdict.notes),
        "error": verdict.error,
    }
