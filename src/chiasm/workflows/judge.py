"""Evaluate a model on the test split, and predict verdicts for new parts."""

from __future__ import annotations

import csv
import json
import math
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from chiasm.artifact import parameter_count
from chiasm.data.opening import open_source
from chiasm.data.source import SampleRef, SampleSource
from chiasm.data.splits import check_disjoint, make_splits
from chiasm.errors import ChiasmError, DataError
from chiasm.evaluation.figures import evaluate_scores
from chiasm.evaluation.overlay import HeatScale, heat_overlay
from chiasm.evaluation.report import write_report
from chiasm.evaluation.scored import ScoredSample
from chiasm.metrics.calibration import normals_needed
from chiasm.predictor import Predictor
from chiasm.registry import find_model
from chiasm.runs.console import FEW, _reason, say, tell_unjudged
from chiasm.samples import RGBDSample, Verdict


def evaluate(
    run: Path | str, *, data: Path | str, out: Path | str | None = None, light: int | None = None
) -> dict[str, Any]:
    """Judge the test split of some data, and write ``metrics.json`` and ``report.html``.

    Args:
        run: a run's or a model's folder.
        data: where the test split lies; it must share no file with the training split.
        out: folder for the report; None takes ``report`` in the run's folder.
        light: which light, for data with several.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DataError: there is no test split, or not one of its parts could be judged.
    """
    folder = Path(run)
    target = Path(out) if out is not None else folder / "report"
    predictor = Predictor.load(folder)
    source = open_source(data, light=light)
    if any(r.split == "train" for r in source.refs):
        check_disjoint(make_splits(source, seed=predictor.contract.seed))
    refs = [ref for ref in source.refs if ref.split in ("test", "")]
    if not refs:
        raise DataError(f"{data} has no test split to evaluate on.")
    problems = getattr(source, "problems", ())
    for problem in problems:
        say(problem)
    scored: list[ScoredSample] = []
    seconds: list[float] = []
    unread: list[str] = []
    for ref in refs:
        try:
            sample = source.load(ref)
            start = time.perf_counter()
            verdict = predictor.judge(sample)
            seconds.append(time.perf_counter() - start)
        except ChiasmError as error:
            verdict = failed(ref.source, error)
            unread.append(_reason(verdict))
            sample = RGBDSample(None, None, np.zeros((1, 1), bool), source=ref.source)
        scored.append(ScoredSample(verdict, sample))
    tell_unjudged(unread, judged=len(seconds), what="test parts")
    learning = folder / "learning.json"
    cost = json.loads(learning.read_text()) if learning.exists() else {}
    cost |= {
        "seconds_per_part_p50": round(float(np.median(seconds)), 4) if seconds else None,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "parameters": parameter_count(predictor.detector),
    }
    metrics = evaluate_scores(scored, cost=cost)
    contract = predictor.contract
    notes = []
    if problems:
        notes.append(
            f"Incomplete samples of {source.name} that are left out of everything here: "
            f"{len(problems)}. The first: {problems[0]}"
        )
    if cost.get("angles", 1) > 1:
        notes.append(
            f"Each of the few good parts was shown at {cost['angles']} angles in training: a part "
            "that lies wrongly is not noticed by that (any_angle=false in training changes it)."
        )
    needed = normals_needed(contract.false_alarm_rate)
    if len(contract.calibration_scores) < needed:
        notes.append(
            f"{len(contract.calibration_scores)} calibration normals are too few to promise a "
            f"false-alarm rate of {contract.false_alarm_rate:.0%}; {needed} are needed."
        )
    if contract.backbone_weights is not None and find_model(contract.method).rival:
        notes.append(
            f"Frozen features: {contract.backbone_weights}. The method's paper prepares parts "
            "otherwise and has weights of its own: its figures are not comparable with these."
        )
    svg = folder / "genotype.svg"
    page = write_report(
        target,
        metrics=metrics,
        scored=scored,
        title=f"{source.name}: {contract.method}",
        genotype_svg=svg.read_text() if svg.exists() else None,
        genotype_text=predictor.genotype.summary() if predictor.genotype else None,
        notes=notes,
        repeat=f"chiasm evaluate {folder} --data {data}",
        false_alarm_rate=contract.false_alarm_rate,
        run=folder,
    )
    say(headline(metrics))
    say(f"The report is {page}.")
    return metrics


def headline(metrics: dict[str, Any]) -> str:
    """The key figures in one line."""

    def value(group: dict[str, Any], name: str) -> str:
        found = group.get(name, {}).get("value")
        return "n/a" if found is None else f"{found:.3f}"

    return (
        f"image AUROC {value(metrics['image'], 'auroc')}, "
        f"pixel AP {value(metrics['pixel'], 'ap')}, "
        f"AUPRO(0.3) {value(metrics['region']['aupro'], '0.3')}, "
        f"AUPRO(0.05) {value(metrics['region']['aupro'], '0.05')}"
    )


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "verdicts",
    light: int | None = None,
    xyz: Path | str | None = None,
) -> list[Verdict]:
    """Judge new parts; writes ``verdicts.csv``, ``verdicts.json`` and heat maps to ``out``.

    Args:
        run: a run's or a model's folder.
        inputs: folder, manifest, or one RGB file (then ``xyz`` names its 3D file).
        out: folder for the results.
        light: which light, for data with several.
        xyz: the 3D file that belongs to a single RGB file.

    A part that cannot be read gets a row with ``error``; the others go on. Heat maps of an earlier
    run in ``out`` are removed.

    Raises:
        DataError: not one part could be judged.
    """
    predictor = Predictor.load(run)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    _remove_earlier(target)
    scale = HeatScale.of(predictor.contract.calibration_scores, predictor.alarm_score)
    verdicts: list[Verdict] = []
    pictures: list[str] = []
    for name, sample in _samples(Path(inputs), xyz=xyz, light=light):
        verdict = next(predictor.judge_all([(name, sample)]))
        verdicts.append(verdict)
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
    unread = [_reason(v) for v in verdicts if v.error]
    say(f"{len(verdicts)} parts: {bad} defective, {len(unread)} not judged. See {target}.")
    for one in verdicts if len(verdicts) <= FEW else ():
        if not one.error:
            say(f"{one.source}: {_in_words(one)}")
    tell_unjudged(unread, judged=len(verdicts) - len(unread), what="parts")
    return verdicts


def failed(source: str, error: ChiasmError) -> Verdict:
    """The verdict on a part that could not be judged."""
    return Verdict(source, math.nan, math.nan, None, None, error=str(error))


def _in_words(verdict: Verdict) -> str:
    if verdict.defective is None:
        return f"score {verdict.score:.3g}; the model was never calibrated"
    decision = "defective" if verdict.defective else "good"
    return f"{decision}, score {verdict.score:.3g}, p-value {verdict.p_value:.3f}"


def _remove_earlier(folder: Path) -> None:
    """Remove the heat maps that an earlier run's table names, so that none is taken for new."""
    table = folder / "verdicts.json"
    try:
        rows = json.loads(table.read_text())
        named = [str(row.get("picture", "")) for row in rows]
    except (OSError, ValueError, AttributeError, TypeError):
        return
    for name in named:
        if name and Path(name).name == name:
            (folder / name).unlink(missing_ok=True)


def _samples(
    path: Path, *, xyz: Path | str | None, light: int | None
) -> Iterator[tuple[str, RGBDSample | ChiasmError]]:
    if path.is_file() and path.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"):
        from chiasm.data.array_sample import sample_from_arrays
        from chiasm.files.images import read_rgb, read_xyz

        try:
            points = read_xyz(Path(xyz)) if xyz is not None else None
            yield str(path), sample_from_arrays(read_rgb(path), points, source=str(path))
        except ChiasmError as error:
            yield str(path), error
        return
    source = open_source(path, light=light)
    yield from _loaded(source, source.refs)
    for problem in getattr(source, "problems", ()):
        yield str(problem), DataError(str(problem))


def _loaded(
    source: SampleSource, refs: Iterable[SampleRef]
) -> Iterator[tuple[str, RGBDSample | ChiasmError]]:
    for ref in refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error


def _row(verdict: Verdict) -> dict[str, Any]:
    def known(x: float) -> float | None:
        return None if math.isnan(x) else x

    return {
        "source": verdict.source,
        "score": known(verdict.score),
        "p_value": known(verdict.p_value),
        "defective": verdict.defective,
        "error": verdict.error,
    }
