"""Evaluate a classifier on recordings it has never seen, and diagnose new ones."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.audit import trivial_numbers
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.source import RecordingRef, problem_message
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.report.figures import TrivialBaseline, evaluate_recordings
from chiasm.diagnosis.report.predictions import CORRUPTED, PREDICTIONS, stacked, write_predictions
from chiasm.diagnosis.report.report import write_diagnosis_report
from chiasm.diagnosis.retrain import retrain
from chiasm.diagnosis.scoring import score_corrupted, score_recordings
from chiasm.diagnosis.simulator.simulator import MARKER
from chiasm.diagnosis.unseen import evaluation_split
from chiasm.runs.console import say
from chiasm.runs.model_folder import parameter_count

MOST_CORRUPTED = 40

MOST_TIMED = 40

_MOST_TOLD = 5


def evaluate(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    most_corrupted: int = MOST_CORRUPTED,
    splits: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Diagnose the recordings that training left for tests; writes figures and a report.

    Of other data, and of recordings that came later, those count whose groups the model has
    neither been trained nor tuned on. A recording that lacks a modality is judged by the other.

    Args:
        run: a run's or a model's folder.
        data: where the recordings lie.
        out: folder for the report; None takes ``report`` in the run's folder.
        most_corrupted: so many of them are diagnosed again with each corruption; 0 for none.
        splits, left_out: see ``beside``: what is trained again, to be shown beside the run.

    Returns:
        The content of ``metrics.json``.

    Raises:
        SplitError: it cannot be told what the model has seen, or nothing was kept for tests.
        DataError: a class is unknown to the model, or no recording is left to be judged.
    """
    folder = Path(run)
    target = Path(out) if out is not None else folder / "report"
    diagnoser = DiagnosisPredictor.load(folder)
    store = open_store(data)
    lists = evaluation_split(folder, diagnoser.contract, store, data)
    train, test = lists.train, lists.test
    unread = [problem_message(problem) for problem in store.problems if problem.left_out]
    for sentence in (*lists.notes, *unread[:_MOST_TOLD]):
        say(sentence)
    if len(unread) > _MOST_TOLD:
        say(f"{len(unread) - _MOST_TOLD} more recordings are left out likewise.")
    say(f"{store.name}: diagnosing {len(test)} recordings of groups it has not seen ...")
    scored = score_recordings(diagnoser, store, test)
    seconds = _latencies(diagnoser, store, _spread(test, MOST_TIMED))
    corruptions, gaps = score_corrupted(diagnoser, store, _spread(test, most_corrupted))
    for sentence in gaps:
        say(sentence)
    by = diagnoser.contract.split.by
    if by in splits:
        say(f"The run itself was divided by {by}, so that it is not trained again by {by}.")
    others, open_set = retrain(run, splits=[s for s in splits if s != by], left_out=left_out)
    learning = folder / "learning.json"
    cost = json.loads(learning.read_text()) if learning.exists() else {}
    cost |= {
        "seconds_per_recording_p50": round(float(np.median(seconds)), 4),
        "seconds_per_recording_p95": round(float(np.quantile(seconds, 0.95)), 4),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "parameters": parameter_count(diagnoser.network),
    }
    metrics = evaluate_recordings(
        scored,
        by=by,
        cost=cost,
        splits=others,
        corruptions=corruptions,
        open_set=open_set,
        trivial=_trivial(store, train, test),
        simulated=(Path(data) / MARKER).is_file(),
        not_judged=len(unread) + lists.not_scored,
    )
    page = write_diagnosis_report(
        target,
        metrics=metrics,
        scored=scored,
        title=f"{store.name}: {diagnoser.contract.method}",
        repeat=f"chiasm evaluate {folder} --data {data}",
        load=lambda place: store.load(test[place]),
        notes=(*lists.notes, *gaps),
        run=folder,
    )
    write_predictions(target / PREDICTIONS, scored)
    if corruptions:
        write_predictions(target / CORRUPTED, stacked(list(corruptions.items())))
    found = metrics["recording"]["macro_f1"]
    say(f"macro-F1 {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})")
    say(f"The report is {page}.")
    return metrics


def _latencies(
    diagnoser: DiagnosisPredictor, store: RecordingStore, refs: Sequence[RecordingRef]
) -> list[float]:
    """Seconds from a decoded recording to its diagnosis."""
    seconds = []
    for ref in refs:
        sample = store.load(ref)
        start = time.perf_counter()
        diagnoser.predict(sample)
        seconds.append(time.perf_counter() - start)
    return seconds


def _spread(refs: Sequence[RecordingRef], most: int) -> list[RecordingRef]:
    """At most so many, of all classes alike, spread over the list."""
    if most <= 0:
        return []
    by_class: dict[int, list[RecordingRef]] = {}
    for ref in refs:
        by_class.setdefault(int(ref.label or 0), []).append(ref)
    each = max(1, most // len(by_class))
    return [r for own in by_class.values() for r in own[:: max(1, len(own) // each)][:each]]


def _trivial(
    store: RecordingStore, train: Sequence[RecordingRef], test: Sequence[RecordingRef]
) -> dict[str, TrivialBaseline] | None:
    if not train:
        return None
    numbers = {
        name: [trivial_numbers(store.load(ref), _files(ref)) for ref in refs]
        for name, refs in (("train", train), ("test", test))
    }
    shared = set.intersection(*(set(one) for rows in numbers.values() for one in rows))
    labels = np.array([ref.label for ref in train], np.int64)
    return {
        name: TrivialBaseline(
            np.array([one[name] for one in numbers["train"]]),
            labels,
            np.array([one[name] for one in numbers["test"]]),
        )
        for name in sorted(shared)
    }


def _files(ref: RecordingRef) -> dict[str, Path]:
    """Where the recording came from, if that is still there."""
    image = Path(ref.source)
    return dict(ref.files) or {"image": image, "series": image.with_suffix(".csv")}
