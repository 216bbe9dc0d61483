"""Evaluate a classifier on recordings it has never seen, and diagnose new ones."""

from __future__ import annotations

import csv
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.data.discharge.opening import open_as_store, open_discharges
from chiasm.data.discharge.simulator import MARKER
from chiasm.data.discharge.source import LEFT_OUT, DischargeRef, DischargeSource
from chiasm.data.discharge.store import DischargeStore
from chiasm.data.discharge.trivial_numbers import trivial_numbers
from chiasm.diagnoser import Diagnoser
from chiasm.errors import ChiasmError
from chiasm.evaluation.diagnosis.figures import evaluate_recordings
from chiasm.evaluation.diagnosis.predictions import (
    CORRUPTED,
    PREDICTIONS,
    stacked,
    write_predictions,
)
from chiasm.evaluation.diagnosis.report import write_diagnosis_report
from chiasm.evaluation.diagnosis.trivial import TrivialRival
from chiasm.runs.console import FEW, say, tell_unjudged
from chiasm.runs.model_folder import parameter_count
from chiasm.samples import Diagnosis, DischargeSample
from chiasm.workflows.beside import beside
from chiasm.workflows.judged_lists import judged_lists
from chiasm.workflows.score_corrupted import score_corrupted
from chiasm.workflows.score_recordings import score_recordings

MOST_CORRUPTED = 40
MOST_TIMED = 40
_MOST_TOLD = 5


def evaluate_classifier(
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
    diagnoser = Diagnoser.load(folder)
    store = open_as_store(data)
    lists = judged_lists(folder, diagnoser.contract, store, data)
    train, test = lists.train, lists.test
    unread = [sentence for sentence in store.problems if sentence.endswith(LEFT_OUT)]
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
    others, open_set = beside(run, splits=[s for s in splits if s != by], left_out=left_out)
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
        not_judged=len(unread) + lists.not_judged,
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
    diagnoser: Diagnoser, store: DischargeStore, refs: Sequence[DischargeRef]
) -> list[float]:
    """Seconds from a decoded recording to its diagnosis."""
    seconds = []
    for ref in refs:
        sample = store.load(ref)
        start = time.perf_counter()
        diagnoser.diagnose(sample)
        seconds.append(time.perf_counter() - start)
    return seconds


def _spread(refs: Sequence[DischargeRef], most: int) -> list[DischargeRef]:
    """At most so many, of all classes alike, spread over the list."""
    if most <= 0:
        return []
    by_class: dict[int, list[DischargeRef]] = {}
    for ref in refs:
        by_class.setdefault(int(ref.label or 0), []).append(ref)
    each = max(1, most // len(by_class))
    return [r for own in by_class.values() for r in own[:: max(1, len(own) // each)][:each]]


def _trivial(
    store: DischargeStore, train: Sequence[DischargeRef], test: Sequence[DischargeRef]
) -> dict[str, TrivialRival] | None:
    if not train:
        return None
    numbers = {
        name: [trivial_numbers(store.load(ref), _files(ref)) for ref in refs]
        for name, refs in (("train", train), ("test", test))
    }
    shared = set.intersection(*(set(one) for rows in numbers.values() for one in rows))
    labels = np.array([ref.label for ref in train], np.int64)
    return {
        name: TrivialRival(
            np.array([one[name] for one in numbers["train"]]),
            labels,
            np.array([one[name] for one in numbers["test"]]),
        )
        for name in sorted(shared)
    }


def _files(ref: DischargeRef) -> dict[str, Path]:
    """Where the recording came from, if that is still there."""
    image = Path(ref.source)
    return dict(ref.files) or {"image": image, "series": image.with_suffix(".csv")}


def diagnose_recordings(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "diagnoses",
    series: Path | str | None = None,
) -> list[Diagnosis]:
    """Diagnose new recordings; writes ``diagnoses.csv`` and ``diagnoses.json`` to ``out``.

    Args:
        run: a run's or a model's folder.
        inputs: folder, table, or one picture (then ``series`` names its series).
        out: folder for the results.
        series: the series that belongs to a single picture.

    A recording that cannot be read gets a row with ``error``; the others go on.

    Raises:
        DataError: not one recording could be diagnosed.
    """
    diagnoser = Diagnoser.load(run)
    source = open_discharges(inputs, partner=series)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    diagnoses = list(diagnoser.diagnose_all(_loaded(source)))
    remarks = [p for p in source.problems if not p.endswith(LEFT_OUT)]
    absent = [p for p in source.problems if p.endswith(LEFT_OUT)]
    diagnoses += [Diagnosis(sentence, None, error=sentence) for sentence in absent]
    rows = [_row(one, diagnoser.contract.kinds) for one in diagnoses]
    (target / "diagnoses.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "diagnoses.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    unknown = sum(one.kind == "unknown" for one in diagnoses)
    failures = [f"{one.error}" for one in diagnoses if one.error]
    for remark in remarks[:_MOST_TOLD]:
        say(remark)
    say(
        f"{len(diagnoses)} recordings: {unknown} unknown, {len(failures)} not diagnosed. "
        f"See {target}."
    )
    for one in diagnoses if len(diagnoses) <= FEW else ():
        if one.kind is not None:
            say(f"{one.source}: {one.kind} ({_opinions(one)})")
    tell_unjudged(failures, judged=len(diagnoses) - len(failures), what="recordings")
    return diagnoses


def _opinions(one: Diagnosis) -> str:
    """The likeliest classes in words."""
    order = sorted(one.probabilities, key=lambda kind: -one.probabilities[kind])
    likely = ", ".join(f"{kind} {one.probabilities[kind]:.0%}" for kind in order[:2])
    return f"{likely}; uncertainty {one.uncertainty:.0%}"


def _loaded(source: DischargeSource) -> Iterator[tuple[str, DischargeSample | ChiasmError]]:
    for ref in source.refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error


def _row(one: Diagnosis, kinds: Sequence[str]) -> dict[str, Any]:
    def known(x: float) -> float | None:
        return None if np.isnan(x) else round(x, 5)

    return {
        "source": one.source,
        "kind": one.kind,
        **{f"p_{kind}": known(one.probabilities.get(kind, float("nan"))) for kind in kinds},
        "uncertainty": known(one.uncertainty),
        "conflict": known(one.conflict),
        "notes": "; ".join(one.notes),
        "error": one.error,
    }
