"""Evaluate a detector on the test split: figures, report and cost."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chiasm.detection.decision import AlarmRule, failed_verdict
from chiasm.detection.hidden_defects import suspicion_note
from chiasm.detection.prediction.known_defects import seen_before
from chiasm.detection.preparation.acquisition import Acquisition, Coverage, coverage_of
from chiasm.detection.preparation.tiles import TilePlan
from chiasm.detection.products.data import OfProduct
from chiasm.detection.readers.opening import open_as_trained
from chiasm.detection.readers.source import Lamp, SampleSource
from chiasm.detection.readers.splits import check_disjoint, make_splits
from chiasm.detection.report.figures import evaluate_scores
from chiasm.detection.report.report import write_report
from chiasm.detection.report.scored import ScoredFile
from chiasm.errors import ChiasmError, DataError
from chiasm.fusion.genotype import Genotype
from chiasm.runs.console import MAX_LISTED, failure_reason, report_failures, say
from chiasm.runs.left_out import check_left_out, left_out_note
from chiasm.samples import Problem, RGBDSample, Verdict
from chiasm.training.progress import Progress, working

_WARNING = "Warning:"  # begins the sentence of an acquisition that doubts it


class EvaluatedModel(Protocol):
    """A trained or exported detector, as an evaluation uses it; see ``DetectionPredictor``."""

    @property
    def alarm_rule(self) -> AlarmRule: ...  # noqa: D102
    @property
    def acquisition(self) -> Acquisition | None: ...  # noqa: D102
    @property
    def tiles(self) -> TilePlan | None: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def is_baseline(self) -> bool: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def backbone_weights(self) -> str | None: ...  # noqa: D102
    @property
    def genotype(self) -> Genotype | None: ...  # noqa: D102
    @property
    def parameters(self) -> int | None: ...  # noqa: D102
    def predict(self, sample: RGBDSample) -> Verdict: ...  # noqa: D102


def evaluate(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    lamp: Lamp | None = None,
    device: str = "auto",
    strict: bool = False,
    model: EvaluatedModel | None = None,
    rows: str | None = None,
) -> dict[str, Any]:
    """Evaluate a detector on a test split; write ``metrics.json`` and ``report.html``.

    Args:
        run: folder of a run, of a model, or of an exported one.
        data: folder or manifest with the test split, which must share no file with the training
            split.
        out: folder for the report; None takes ``report`` in the run's folder, and one beside an
            exported one, which stays as sealed.
        lamp: number of the lamp, for data with several; ``"all"`` takes all of them. None takes
            the lamp that the run saw its parts under.
        device: that predicts, see ``find_device``.
        strict: stop where a test part cannot be judged, instead of counting it; all are listed.
        model: that the folder holds, where it is loaded already.
        rows: product whose rows of a table are meant; None takes all.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DataError: there is no test split, none of its parts could be scored, or ``strict`` found
            one that could not.
    """
    folder = Path(run)
    predictor: EvaluatedModel = model or _trained(folder, device)
    target = _place_of_report(folder, out, exported=predictor.parameters is None)
    source, remarks = open_as_trained(data, predictor.acquisition, lamp=lamp)
    if rows is not None:
        source = OfProduct(source, rows)
    for remark in remarks:
        say(remark)
    if any(ref.split == "train" for ref in source.refs):
        check_disjoint(make_splits(source, seed=predictor.seed))
    refs = [ref for ref in source.refs if ref.split in ("test", "")]
    if not refs:
        raise DataError(f"{data} has no test split to evaluate on.")
    if warning := seen_before(refs, predictor.alarm_rule.known_defects):
        say(f"Warning: {warning}")
        remarks = (*remarks, warning)
    problems = [problem for problem in source.problems if problem.left_out]
    for problem in problems[:MAX_LISTED]:
        say(str(problem))
    if len(problems) > MAX_LISTED:
        say(f"{len(problems) - MAX_LISTED} more parts are left out; 'chiasm data check' lists all.")
    target.mkdir(parents=True, exist_ok=True)
    seconds: list[float] = []
    failures: list[str] = []
    notes: Counter[str] = Counter()
    shares: dict[str, float] = {}
    with ScoredFile(target) as file, Progress("Evaluating", len(refs)) as progress:
        for ref in progress.over(refs):
            try:
                sample = source.load(ref)
                start = time.perf_counter()
                verdict = predictor.predict(sample)
                seconds.append(time.perf_counter() - start)
                notes.update(verdict.notes)
                if verdict.anomaly_map is not None:
                    shares[ref.source] = float(verdict.anomaly_map.foreground.mean())
            except ChiasmError as error:
                verdict = failed_verdict(ref.source, error)
                failures.append(failure_reason(verdict))
                problems.append(Problem(ref.source, failures[-1], left_out=True))
                sample = RGBDSample(None, None, np.zeros((1, 1), bool), source=ref.source)
            file.append(verdict, sample)
        scored = file.samples()
    if strict:
        total = len(refs) + len(problems) - len(failures)
        check_left_out(problems, total=total, noun="test parts", strict=True)
    report_failures(failures, succeeded=len(seconds), noun="test parts")
    seen = [*remarks, *(f"{n} of {len(seconds)} test parts: {note}" for note, n in notes.items())]
    for sentence in seen[len(remarks) :]:
        say(sentence)
    learning = folder / "learning.json"
    cost = json.loads(learning.read_text()) if learning.exists() else {}
    cost |= {
        "seconds_per_part_p50": round(float(np.median(seconds)), 4) if seconds else None,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **({} if predictor.parameters is None else {"parameters": predictor.parameters}),
    }
    rotations = cost.get("rotations", cost.get("angles", 1))  # "angles" in runs of version 0.1
    with working("Computing figures and intervals"):
        metrics = evaluate_scores(scored, cost=cost)
    coverage = _coverage_sentences(predictor.acquisition, coverage_of(shares))
    svg = folder / "genotype.svg"
    page = write_report(
        target,
        metrics=metrics,
        scored=scored,
        title=f"{source.name}: {predictor.method}",
        genotype_svg=svg.read_text() if svg.exists() else None,
        genotype_text=predictor.genotype.summary() if predictor.genotype else None,
        notes=[
            *seen,
            *(sentence for sentence in coverage if sentence.startswith(_WARNING)),
            *_notes(folder, predictor, source, rotations=rotations),
        ],
        facts=[sentence for sentence in coverage if not sentence.startswith(_WARNING)],
        repeat=f"chiasm evaluate {folder} --data {data}"
        + (f" --lamp {lamp}" if lamp is not None else ""),
        rule=predictor.alarm_rule,
        run=folder,
        genotype=predictor.genotype,
    )
    say(headline(metrics))
    say(predictor.alarm_rule.promise)
    say(f"The report is {page}.")
    return metrics


def _trained(folder: Path, device: str) -> EvaluatedModel:
    from chiasm.detection.predictor import DetectionPredictor  # PyTorch

    return DetectionPredictor.load(folder, device=device)


def _place_of_report(folder: Path, out: Path | str | None, *, exported: bool) -> Path:
    if out is not None:
        return Path(out)
    return folder.with_name(f"{folder.name}_report") if exported else folder / "report"


def _coverage_sentences(trained: Acquisition | None, tested: Coverage | None) -> list[str]:
    """Return how much of the frame was looked at, at the training and in the test parts."""
    sentences = [] if trained is None else list(trained.sentences)
    if tested is not None:
        sentences.append(
            f"Of the test parts' frames {tested.median:.0%} was looked at (median; "
            f"{tested.smallest:.1%} at least, {tested.largest:.1%} at most)."
        )
    return sentences


def _notes(
    folder: Path, model: EvaluatedModel, source: SampleSource, *, rotations: int
) -> list[str]:
    """Return what limits the meaning of the figures, a sentence or two each."""
    suspicions = suspicion_note(folder)
    notes = [] if suspicions is None else [suspicions]
    if source.problems:
        notes.append(
            f"Incomplete samples of {source.name}, left out of everything here: "
            f"{len(source.problems)}. The first: {source.problems[0]}"
        )
    if rotations > 1:
        notes.append(
            f"Each of the few training parts was shown at {rotations} rotations, so the model does "
            "not detect a part that lies at a wrong angle (rotate=false in training changes this)."
        )
    if (left_out := left_out_note(folder)) is not None:
        notes.append(left_out)
    if model.tiles is not None:
        notes.append(model.tiles.in_words())
    if not model.alarm_rule.decides or model.alarm_rule.known_defects is not None:
        notes.append(model.alarm_rule.promise)
    if model.backbone_weights is not None and model.is_baseline:
        notes.append(
            f"Frozen features: {model.backbone_weights}. The method's paper uses another "
            "preparation and other weights: its figures are not comparable with these."
        )
    return notes


def headline(metrics: dict[str, Any]) -> str:
    """Return the key figures in one line."""

    def value(group: dict[str, Any], name: str) -> str:
        figure = group.get(name, {}).get("value")
        return "n/a" if figure is None else f"{figure:.3f}"

    return (
        f"image AUROC {value(metrics['image'], 'auroc')}, "
        f"pixel AP {value(metrics['pixel'], 'ap')}, "
        f"AUPRO(0.3) {value(metrics['region']['aupro'], '0.3')}, "
        f"AUPRO(0.05) {value(metrics['region']['aupro'], '0.05')}"
    )
