"""Evaluate a classifier on recordings that it has never seen, and write the report."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.procedures.retrain import retrain
from chiasm.diagnosis.readers.audit import trivial_numbers
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.source import RecordingRef, problem_message
from chiasm.diagnosis.readers.splits import RANDOM
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.report.figures import TrivialBaseline, evaluate_recordings
from chiasm.diagnosis.report.predictions import CORRUPTED, PREDICTIONS, stacked, write_predictions
from chiasm.diagnosis.report.report import write_diagnosis_report
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.diagnosis.report.unknown_faults import unknown_figures, unknown_words
from chiasm.diagnosis.report.wording import shortcut_words
from chiasm.diagnosis.scoring import EvaluatedModel, score_corrupted, score_recordings
from chiasm.diagnosis.simulator.simulator import is_simulated
from chiasm.diagnosis.unseen import EvaluationSplit, evaluation_split
from chiasm.errors import ConfigurationError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.runs.console import MAX_LISTED, say
from chiasm.runs.left_out import check_left_out, left_out_note
from chiasm.training.progress import counted

# Recordings that are corrupted, and whose diagnosis is timed, at most.
MOST_CORRUPTED = 40
MOST_TIMED = 40


def evaluate(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    most_corrupted: int = MOST_CORRUPTED,
    splits: Sequence[str] = (),
    left_out: Sequence[str] = (),
    device: str = "auto",
    model: EvaluatedModel | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Score the recordings that training left for tests; writes figures and a report.

    Recordings of other data, or added after training, are scored if the model was neither trained
    nor tuned on their group. A recording that lacks a modality is scored by the other. Those of
    classes that the model was not trained on are scored as unknown.

    Args:
        run: folder of a run, of a model, or of an exported one.
        data: folder, store or table of the recordings.
        out: folder for the report; None takes ``report`` in the run's folder, and one beside an
            exported one.
        most_corrupted: number of recordings that are scored with each corruption; 0 for none.
        splits, left_out: splits, and classes to leave out, for which the run's settings are
            trained again for comparison, on the run's device; see ``retrain``.
        device: that predicts, see ``find_device``.
        model: that the folder holds, where it is loaded already.
        strict: stop where a recording cannot be read, instead of counting it; all are listed.

    Returns:
        The content of ``metrics.json``.

    Raises:
        SplitError: it is unknown what the model was trained on, or the run has no test recordings.
        DataError: no recording of a trained class is left to be scored, a class's name is nearly
            one of the model's, or ``strict`` found a recording that cannot be read.
    """
    folder = Path(run)
    if model is None:
        model = DiagnosisPredictor.load(folder, device=device)
    exported = model.parameters is None
    if exported and (splits or left_out):
        raise ConfigurationError(
            f"{folder} is an exported model, which cannot be trained again on other splits or "
            "without a class; evaluate the run that it was exported from."
        )
    beside = folder.with_name(f"{folder.name}_report") if exported else folder / "report"
    target = beside if out is None else Path(out)
    store = open_store(data)
    split = evaluation_split(folder, model.contract, store, data)
    train, test = split.train, split.test
    damaged = [problem for problem in store.problems if problem.left_out]
    if strict:
        total = len(store.refs) + len(damaged)
        check_left_out(damaged, total=total, noun="recordings", strict=True)
    unreadable = [problem_message(problem) for problem in damaged]
    for sentence in (*split.notes, *unreadable[:MAX_LISTED]):
        say(sentence)
    if len(unreadable) > MAX_LISTED:
        say(f"{len(unreadable) - MAX_LISTED} more recordings are left out.")
    random = model.contract.split.groups_by == RANDOM
    unseen = "that training did not see" if random else "of unseen groups"
    say(f"{store.name}: scoring {len(test)} recordings {unseen} ...")
    if random:
        say("Divided at random: near copies of them may be in the training, and figures flatter.")
    scored = score_recordings(model, store, test)
    others_scored = _scored_unknown(model, store, split)
    seconds = _latencies(model, store, _spread(test, MOST_TIMED))
    corruptions, remarks = score_corrupted(model, store, _spread(test, most_corrupted))
    for sentence in remarks:
        say(sentence)
    by = model.contract.split.by
    if by in splits:
        say(f"The run itself is split by {by}, so that it is not trained again for that.")
    others, open_set = retrain(run, splits=[s for s in splits if s != by], left_out=left_out)
    learning = folder / "learning.json"
    cost = json.loads(learning.read_text()) if learning.exists() else {}
    cost |= {
        "seconds_per_recording_p50": round(float(np.median(seconds)), 4),
        "seconds_per_recording_p95": round(float(np.quantile(seconds, 0.95)), 4),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **({} if model.parameters is None else {"parameters": model.parameters}),
    }
    metrics = evaluate_recordings(
        scored,
        by=by,
        cost=cost,
        splits=others,
        corruptions=corruptions,
        open_set=open_set,
        trivial=_trivial(store, train, test),
        simulated=is_simulated(data),
        not_judged=len(unreadable) + split.not_scored,
    )
    rule = model.contract.unknown
    metrics["unknown"] = unknown_figures(
        scored,
        others_scored,
        rule="belief" if rule is None else rule.by,
        share=None if rule is None else rule.share,
        by=by,
    )
    chosen = getattr(model.contract, "chosen", None)  # an exported model's does not say
    page = write_diagnosis_report(
        target,
        metrics=metrics,
        scored=scored,
        title=f"{store.name}: {model.contract.method}",
        repeat=f"chiasm evaluate {folder} --data {data}",
        load=lambda index: store.load(test[index]),
        notes=(*split.notes, *remarks, *filter(None, [left_out_note(folder), chosen])),
        run=folder,
    )
    write_predictions(target / PREDICTIONS, scored)
    if corruptions:
        write_predictions(target / CORRUPTED, stacked(list(corruptions.items())))
    f1 = metrics["recording"]["macro_f1"]
    say(f"macro-F1 {f1['value']:.3f} ({f1['low']:.3f} to {f1['high']:.3f})")
    for sentence in (*shortcut_words(metrics), *unknown_words(metrics["unknown"])):
        say(sentence)
    say(f"The report is {page}.")
    return metrics


def _scored_unknown(
    model: EvaluatedModel, store: RecordingStore, split: EvaluationSplit
) -> dict[str, ScoredRecordings]:
    """Return the scores of recordings of untrained classes by class; their labels say nothing."""
    if split.unknown:
        say(f"{store.name}: scoring {len(split.unknown)} recordings of untrained classes ...")
    by_kind: dict[str, list[RecordingRef]] = {kind: [] for kind in split.unknown_kinds}
    for ref in split.unknown:
        by_kind[ref.kind].append(replace(ref, label=0))
    return {kind: score_recordings(model, store, refs) for kind, refs in by_kind.items()}


def _latencies(
    model: EvaluatedModel, store: RecordingStore, refs: Sequence[RecordingRef]
) -> list[float]:
    """Return the seconds from a decoded recording to its diagnosis."""
    seconds = []
    for ref in counted("Timing", refs, unit="recordings"):
        sample = store.load(ref)
        start = time.perf_counter()
        model.predict(sample)
        seconds.append(time.perf_counter() - start)
    return seconds


def _spread(refs: Sequence[RecordingRef], most: int) -> list[RecordingRef]:
    """Return at most so many recordings, evenly of each class and spread over the list."""
    if most <= 0:
        return []
    by_class: dict[int, list[RecordingRef]] = {}
    for ref in refs:
        by_class.setdefault(int(ref.label or 0), []).append(ref)
    each = max(1, most // len(by_class))
    return [ref for some in by_class.values() for ref in some[:: max(1, len(some) // each)][:each]]


def _trivial(
    store: RecordingStore, train: Sequence[RecordingRef], test: Sequence[RecordingRef]
) -> dict[str, TrivialBaseline] | None:
    if not train:
        return None
    numbers = {
        name: [
            trivial_numbers(store.load(ref), _files(ref))
            for ref in counted("Measuring trivial numbers", refs, unit="recordings")
        ]
        for name, refs in (("train", train), ("test", test))
    }
    shared = set.intersection(*(set(row) for rows in numbers.values() for row in rows))
    labels = np.array([ref.label for ref in train], np.int64)
    return {
        name: TrivialBaseline(
            np.array([row[name] for row in numbers["train"]]),
            labels,
            np.array([row[name] for row in numbers["test"]]),
        )
        for name in sorted(shared)
    }


def _files(ref: RecordingRef) -> dict[str, Path]:
    """Return the files that the recording was read from; they may be gone."""
    source = Path(ref.source)
    if ref.files or source.suffix.lower() not in RGB_SUFFIXES:
        return dict(ref.files) or {"series": source}
    return {"image": source, "series": source.with_suffix(".csv")}
